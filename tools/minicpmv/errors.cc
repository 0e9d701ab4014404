#include "tools/minicpmv/errors.h"

#include "absl/strings/str_cat.h"

namespace minicpmv {

int ExitStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition:
      return 2;
    default:
      return 1;
  }
}

std::string ErrorLine(const absl::Status& status) {
  std::string line = "minicpmv: ";
  const absl::string_view words = status.message();
  for (const char c : words) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      absl::StrAppend(&line, "\\x", absl::Hex(byte, absl::kZeroPad2));
    } else {
      line += c;
    }
  }
  if (words.empty()) absl::StrAppend(&line, absl::StatusCodeToString(status.code()));
  return line;
}

}  // namespace minicpmv
