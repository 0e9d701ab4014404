#include "tools/minicpmv/reply_json.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace minicpmv {

std::string JsonOf(const Reply& reply) {
  using Json = nlohmann::ordered_json;
  Json seconds = Json::object();
  for (const BillStage stage : kBillStages) {
    seconds[std::string(NameOf(stage))] = absl::ToDoubleSeconds(reply.bill.Spent(stage));
  }
  seconds["total"] = absl::ToDoubleSeconds(reply.bill.total());
  Json spans = Json::array();
  for (const Bill::Span& span : reply.bill.spans()) {
    spans.push_back({{"stage", std::string(NameOf(span.stage))},
                     {"start", absl::ToDoubleSeconds(span.start - reply.bill.begin())},
                     {"end", absl::ToDoubleSeconds(span.end - reply.bill.begin())}});
  }
  const Json object = {
      {"text", reply.text},
      {"tokens", reply.tokens},
      {"finish_reason", reply.end == ReplyEnd::kLength ? "length" : "stop"},
      {"usage",
       {{"prompt_tokens", reply.prompt_tokens}, {"completion_tokens", reply.tokens.size()}}},
      {"seconds", std::move(seconds)},
      {"spans", std::move(spans)},
      {"seed", reply.seed},
  };
  return absl::StrCat(object.dump(), "\n");
}

std::string BillLineOf(const Reply& reply) {
  std::string line = absl::StrFormat("bill:     %.3f s", absl::ToDoubleSeconds(reply.bill.total()));
  absl::string_view separator = " (";
  for (const BillStage stage : kBillStages) {
    absl::StrAppendFormat(&line, "%s%s %.3f", separator, NameOf(stage),
                          absl::ToDoubleSeconds(reply.bill.Spent(stage)));
    separator = ", ";
  }
  absl::StrAppend(&line, "), ", reply.prompt_tokens, " prompt tokens, ", reply.tokens.size(),
                  " new tokens, seed ", reply.seed, "\n");
  return line;
}

}  // namespace minicpmv
