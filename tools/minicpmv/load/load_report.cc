#include "tools/minicpmv/load/load_report.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace minicpmv {
namespace {

using Json = nlohmann::ordered_json;

// To a thousandth.
double Milliseconds(absl::Duration duration) {
  return std::round(absl::ToDoubleMicroseconds(duration)) / 1000;
}

Json JsonOf(const std::optional<Percentiles>& percentiles) {
  if (!percentiles.has_value()) return nullptr;
  return {{"p50", Milliseconds(percentiles->p50)},
          {"p90", Milliseconds(percentiles->p90)},
          {"p99", Milliseconds(percentiles->p99)},
          {"max", Milliseconds(percentiles->max)}};
}

void AddFigures(const LoadFigures& figures, Json& object) {
  object["requests"] = figures.requests;
  object["completed"] = figures.completed;
  object["refused"] = figures.refused;
  object["failed"] = figures.failed;
  object["resumptions"] = figures.resumptions;
  object["errors"] = Json::object();
  for (const auto& [code, count] : figures.errors) object["errors"][code] = count;
  object["output_tokens_per_second"] = figures.output_tokens_per_second;
  object["goodput"] = figures.goodput;
  object["ttft_ms"] = JsonOf(figures.ttft);
  object["itl_ms"] = JsonOf(figures.itl);
  object["tpot_ms"] = JsonOf(figures.tpot);
  object["e2e_ms"] = JsonOf(figures.e2e);
}

Json JsonOf(const LoadSecond& second, size_t number) {
  return {{"second", number},
          {"due", second.due},
          {"sent", second.sent},
          {"completed", second.completed},
          {"refused", second.refused},
          {"failed", second.failed},
          {"waiting", second.waiting},
          {"open", second.open},
          {"output_tokens", second.output_tokens},
          {"ttft_ms", JsonOf(second.ttft)},
          {"itl_ms", JsonOf(second.itl)},
          {"refusal_ms", JsonOf(second.refusal)}};
}

void AddLine(absl::string_view name, const std::optional<Percentiles>& percentiles,
             std::string& table) {
  if (!percentiles.has_value()) return;
  absl::StrAppendFormat(&table, "%-22s%10.1f%10.1f%10.1f%10.1f\n", name,
                        Milliseconds(percentiles->p50), Milliseconds(percentiles->p90),
                        Milliseconds(percentiles->p99), Milliseconds(percentiles->max));
}

void AddLines(const LoadFigures& figures, std::string& table) {
  AddLine("  TTFT", figures.ttft, table);
  AddLine("  between tokens", figures.itl, table);
  AddLine("  TPOT", figures.tpot, table);
  AddLine("  end to end", figures.e2e, table);
}

std::string CountsOf(const LoadFigures& figures) {
  return absl::StrCat(figures.requests, " requests, ", figures.completed, " completed, ",
                      figures.refused, " refused, ", figures.failed, " failed");
}

}  // namespace

std::string JsonOf(const LoadReport& report) {
  Json object = {{"offered_rate", report.offered_rate},
                 {"seconds", absl::ToDoubleSeconds(report.duration)}};
  AddFigures(FiguresOf(report.records, report.duration, report.slo), object);
  object["by_class"] = Json::object();
  for (const LoadClass load_class : kLoadClasses) {
    const std::vector<RequestRecord> records = RecordsOf(report.records, load_class);
    Json& entry = object["by_class"][std::string(NameOf(load_class))] = Json::object();
    AddFigures(FiguresOf(records, report.duration, report.slo), entry);
  }
  object["series"] = Json::array();
  const std::vector<LoadSecond> series = SeriesOf(report.records);
  for (size_t i = 0; i < series.size(); ++i) object["series"].push_back(JsonOf(series[i], i));
  return absl::StrCat(object.dump(), "\n");
}

std::string TableOf(const LoadReport& report) {
  const LoadFigures all = FiguresOf(report.records, report.duration, report.slo);
  std::string table =
      absl::StrFormat("%s in %.1f s, %g conversations a second offered\n", CountsOf(all),
                      absl::ToDoubleSeconds(report.duration), report.offered_rate);
  if (!all.errors.empty()) {
    absl::StrAppend(&table, "errors: ", absl::StrJoin(all.errors, ", ", absl::PairFormatter(" ")),
                    "\n");
  }
  if (all.resumptions > 0) {
    absl::StrAppend(&table, "replies that broke went on ", all.resumptions, " times\n");
  }
  absl::StrAppendFormat(&table, "%.1f tokens/s; goodput %.2f requests/s (TTFT <= %s, TPOT <= %s)\n",
                        all.output_tokens_per_second, all.goodput,
                        absl::FormatDuration(report.slo.ttft),
                        absl::FormatDuration(report.slo.itl));
  absl::StrAppendFormat(&table, "%-22s%10s%10s%10s%10s\n", "milliseconds", "p50", "p90", "p99",
                        "max");
  AddLines(all, table);
  for (const LoadClass load_class : kLoadClasses) {
    const LoadFigures figures =
        FiguresOf(RecordsOf(report.records, load_class), report.duration, report.slo);
    if (figures.requests == 0) continue;
    absl::StrAppend(&table, NameOf(load_class), ": ", CountsOf(figures), "\n");
    AddLines(figures, table);
  }
  const Refusals refusals = RefusalsOf(report.records);
  if (refusals.latency.has_value()) {
    absl::StrAppend(&table, "refusals: ", refusals.with_retry_delay, " of ", all.refused,
                    " say when to come again\n");
    AddLine("  since sent", refusals.latency, table);
  }
  return table;
}

}  // namespace minicpmv
