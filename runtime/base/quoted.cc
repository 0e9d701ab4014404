#include "runtime/base/quoted.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace minicpmv {

std::string Quoted(absl::string_view text, size_t limit) {
  const bool cut = text.size() > limit;
  return absl::StrCat("\"", absl::CHexEscape(cut ? text.substr(0, limit) : text),
                      cut ? "...\"" : "\"");
}

}  // namespace minicpmv
