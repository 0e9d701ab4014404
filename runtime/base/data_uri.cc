#include "runtime/base/data_uri.h"

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"

namespace minicpmv {

bool IsDataUri(absl::string_view uri) {
  return absl::StartsWithIgnoreCase(uri.substr(0, 5), "data:");
}

absl::StatusOr<std::string> BytesOfDataUri(absl::string_view uri) {
  const size_t comma = uri.find(',');
  if (!IsDataUri(uri) || comma == absl::string_view::npos ||
      !absl::EndsWithIgnoreCase(uri.substr(0, comma), ";base64")) {
    return absl::InvalidArgumentError("is no data URI that begins like data:image/png;base64,");
  }
  std::string bytes;
  if (!absl::Base64Unescape(uri.substr(comma + 1), &bytes)) {
    return absl::InvalidArgumentError("is a data URI that does not hold base64");
  }
  return bytes;
}

}  // namespace minicpmv
