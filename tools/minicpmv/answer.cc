#include "tools/minicpmv/answer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace minicpmv {

std::string JsonOf(const Answer& answer) {
  using Json = nlohmann::ordered_json;
  Json seconds = Json::object();
  for (size_t i = 0; i < std::size(kBillStages); ++i) {
    seconds[std::string(NameOf(kBillStages[i]))] = answer.seconds[i];
  }
  seconds["total"] = answer.total_seconds;
  Json spans = Json::array();
  for (const Answer::Span& span : answer.spans) {
    spans.push_back({{"stage", span.stage}, {"start", span.start}, {"end", span.end}});
  }
  const Json object = {
      {"text", answer.text},
      {"tokens", answer.tokens},
      {"finish_reason", answer.was_cut ? "length" : "stop"},
      {"usage",
       {{"prompt_tokens", answer.prompt_tokens}, {"completion_tokens", answer.tokens.size()}}},
      {"seconds", std::move(seconds)},
      {"spans", std::move(spans)},
      {"seed", answer.seed},
  };
  return absl::StrCat(object.dump(), "\n");
}

std::string BillLineOf(const Answer& answer) {
  std::string line = absl::StrFormat("bill:     %.3f s", answer.total_seconds);
  absl::string_view separator = " (";
  for (size_t i = 0; i < std::size(kBillStages); ++i) {
    absl::StrAppendFormat(&line, "%s%s %.3f", separator, NameOf(kBillStages[i]), answer.seconds[i]);
    separator = ", ";
  }
  absl::StrAppend(&line, "), ", answer.prompt_tokens, " prompt tokens, ", answer.tokens.size(),
                  " new tokens, seed ", answer.seed, "\n");
  return line;
}

}  // namespace minicpmv
