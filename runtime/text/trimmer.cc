#include "runtime/text/trimmer.h"

#include "absl/strings/str_cat.h"
#include "runtime/text/utf8.h"

namespace minicpmv {
namespace {

// What str.isspace() says: separators, and the control characters that Unicode's bidirectional
// classes call space.
bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

}  // namespace

std::string Trimmer::Push(absl::string_view text) {
  std::string certain;
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    const absl::string_view character = text.substr(0, step.length);
    text.remove_prefix(step.length);
    if (step.kind == Utf8Step::kWhole && IsSpace(CodePointOf(character))) {
      if (begun_) absl::StrAppend(&waiting_, character);
      continue;
    }
    begun_ = true;
    absl::StrAppend(&certain, waiting_, character);
    waiting_.clear();
  }
  return certain;
}

}  // namespace minicpmv
