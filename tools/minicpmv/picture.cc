#include "tools/minicpmv/picture.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/status_macros.h"
#include "runtime/media/image.h"

namespace minicpmv {

absl::StatusOr<Picture> ReadPicture(const std::string& path) {
  Picture picture;
  picture.name = path;
  ASSIGN_OR_RETURN(picture.bytes, ReadFile(path, ImageLimits().bytes));
  return picture;
}

bool IsDataUri(absl::string_view url) {
  return absl::StartsWithIgnoreCase(url.substr(0, 5), "data:");
}

absl::StatusOr<Picture> PictureFromDataUri(absl::string_view uri, const std::string& name) {
  const size_t comma = uri.find(',');
  if (comma == absl::string_view::npos ||
      !absl::EndsWithIgnoreCase(uri.substr(0, comma), ";base64")) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": a data URI has to begin like data:image/png;base64,"));
  }
  Picture picture;
  picture.name = absl::StrCat(name, " (data URI)");
  if (!absl::Base64Unescape(uri.substr(comma + 1), &picture.bytes)) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": the data URI does not hold base64"));
  }
  return picture;
}

}  // namespace minicpmv
