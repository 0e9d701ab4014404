#include "runtime/text/reply_text.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {

absl::StatusOr<ReplyText> ReplyText::Create(const Tokenizer& tokenizer, Options options) {
  ASSIGN_OR_RETURN(StopTexts stop, StopTexts::Create(options.stop));
  return ReplyText(tokenizer, std::move(stop), std::move(options));
}

std::string ReplyText::Push(int32_t token) {
  const bool first = std::exchange(first_, false);
  if (options_.reference_quirks && (token == 0 || (first && token == options_.message_start))) {
    return "";
  }
  return Send(stop_.Push(characters_.Push(token)));
}

std::string ReplyText::Finish() {
  std::string rest = stop_.Push(characters_.Finish());
  if (!stop_.stopped()) absl::StrAppend(&rest, stop_.Finish());
  return Send(std::move(rest));
}

std::string ReplyText::Send(std::string text) {
  return options_.reference_quirks ? trimmer_.Push(text) : text;
}

}  // namespace minicpmv
