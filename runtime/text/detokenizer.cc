#include "runtime/text/detokenizer.h"

#include "absl/strings/str_cat.h"
#include "runtime/text/utf8.h"

namespace minicpmv {

std::string Detokenizer::Push(int32_t id) {
  absl::StrAppend(&pending_, tokenizer_.BytesOf(id));
  return TakeWholeUtf8(pending_);
}

std::string Detokenizer::Finish() {
  if (pending_.empty()) return "";
  pending_.clear();
  return std::string(kReplacementCharacter);
}

}  // namespace minicpmv
