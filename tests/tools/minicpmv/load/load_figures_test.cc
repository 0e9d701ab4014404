#include "tools/minicpmv/load/load_figures.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tools/minicpmv/load/load_report.h"

namespace minicpmv {
namespace {

absl::Duration Ms(int64_t milliseconds) { return absl::Milliseconds(milliseconds); }

// One that was due and sent at those times; a token comes at each of `tokens`, and the end 10 ms
// after the last.
RequestRecord Reply(int64_t due, int64_t sent, const std::vector<int64_t>& tokens) {
  RequestRecord record;
  record.due = Ms(due);
  record.sent = Ms(sent);
  for (const int64_t at : tokens) record.events.push_back({Ms(at), 1});
  record.end = Ms((tokens.empty() ? sent : tokens.back()) + 10);
  return record;
}

RequestRecord Error(int64_t due, int64_t end, absl::StatusCode code,
                    const std::vector<int64_t>& tokens = {}) {
  RequestRecord record = Reply(due, due, tokens);
  record.end = Ms(end);
  record.code = code;
  return record;
}

TEST(LoadFiguresTest, FindsPercentilesBetweenTheRanks) {
  std::vector<absl::Duration> values;
  for (int i = 100; i >= 0; --i) values.push_back(Ms(i));
  const Percentiles hundred = *PercentilesOf(values);
  EXPECT_EQ(hundred.p50, Ms(50));
  EXPECT_EQ(hundred.p90, Ms(90));
  EXPECT_EQ(hundred.p99, Ms(99));
  EXPECT_EQ(hundred.max, Ms(100));
  const Percentiles two = *PercentilesOf({Ms(200), Ms(100)});
  EXPECT_EQ(two.p50, Ms(150));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(two.p90), 190, 1e-6);
  EXPECT_EQ(PercentilesOf({Ms(7)})->p99, Ms(7));
  EXPECT_FALSE(PercentilesOf({}).has_value());
}

TEST(LoadFiguresTest, CountsLatencyFromWhenARequestWasDue) {
  // 500 ms in line, a first token 100 ms later, two more.
  const std::vector<RequestRecord> records = {Reply(1000, 1500, {1600, 1620, 1660})};
  const LoadFigures figures = FiguresOf(records, absl::Seconds(2), {});
  EXPECT_EQ(figures.ttft->p50, Ms(600));
  EXPECT_EQ(figures.e2e->p50, Ms(670));
  EXPECT_EQ(figures.tpot->p50, Ms(35));
  EXPECT_EQ(figures.itl->p50, Ms(30));
  EXPECT_EQ(figures.itl->max, Ms(40));
  EXPECT_EQ(figures.output_tokens_per_second, 1.5);
}

TEST(LoadFiguresTest, CountsAnEventOfSeveralTokensAsOneGap) {
  RequestRecord record = Reply(0, 0, {100, 200});
  record.events[1].tokens = 4;
  const LoadFigures figures = FiguresOf({record}, absl::Seconds(1), {});
  EXPECT_EQ(figures.itl->max, Ms(100));
  EXPECT_EQ(figures.tpot->max, Ms(110) / 4);
  EXPECT_EQ(figures.output_tokens_per_second, 5);
}

TEST(LoadFiguresTest, TellsRefusedFromFailed) {
  const std::vector<RequestRecord> records = {
      Reply(0, 0, {10}), Error(0, 5, absl::StatusCode::kResourceExhausted),
      // It had begun.
      Error(0, 30, absl::StatusCode::kResourceExhausted, {20}),
      Error(0, 40, absl::StatusCode::kUnavailable)};
  const LoadFigures figures = FiguresOf(records, absl::Seconds(1), {});
  EXPECT_EQ(figures.requests, 4);
  EXPECT_EQ(figures.completed, 1);
  EXPECT_EQ(figures.refused, 1);
  EXPECT_EQ(figures.failed, 2);
  const std::map<std::string, int64_t> errors = {{"RESOURCE_EXHAUSTED", 2}, {"UNAVAILABLE", 1}};
  EXPECT_EQ(figures.errors, errors);
  EXPECT_EQ(figures.output_tokens_per_second, 2);
  EXPECT_EQ(figures.ttft->max, Ms(10));  // of what was completed
}

TEST(LoadFiguresTest, CallsGoodWhatKeepsBothValues) {
  const std::vector<RequestRecord> records = {
      Reply(0, 0, {100, 150, 200}),                         // good
      Reply(0, 0, {300, 350, 400}),                         // begins late
      Reply(0, 0, {100, 300, 500}),                         // slow
      Reply(0, 0, {100}),                                   // has no second token
      Error(0, 200, absl::StatusCode::kUnavailable, {100})  // no reply
  };
  EXPECT_EQ(FiguresOf(records, absl::Seconds(2), {Ms(200), Ms(100)}).goodput, 1);
  EXPECT_EQ(FiguresOf(records, absl::Seconds(2), {}).goodput, 2);
}

TEST(LoadFiguresTest, MeasuresRefusals) {
  std::vector<RequestRecord> records = {Error(0, 5, absl::StatusCode::kResourceExhausted),
                                        Error(0, 7, absl::StatusCode::kResourceExhausted),
                                        Error(0, 900, absl::StatusCode::kUnavailable)};
  records[0].has_retry_delay = true;
  const Refusals refusals = RefusalsOf(records);
  EXPECT_EQ(refusals.with_retry_delay, 1);
  EXPECT_EQ(refusals.latency->max, Ms(7));
}

TEST(LoadFiguresTest, TellsWhatHappenedInEachSecond) {
  const std::vector<RequestRecord> records = {
      Reply(100, 1200, {1300, 2500}),  // waits for a stream at the end of the first second
      Error(1400, 1420, absl::StatusCode::kResourceExhausted)};
  const std::vector<LoadSecond> series = SeriesOf(records);
  ASSERT_EQ(series.size(), 3u);
  EXPECT_EQ(series[0].due, 1);
  EXPECT_EQ(series[0].waiting, 1);
  EXPECT_EQ(series[0].open, 0);
  EXPECT_FALSE(series[0].ttft.has_value());
  EXPECT_EQ(series[1].sent, 2);
  EXPECT_EQ(series[1].waiting, 0);
  EXPECT_EQ(series[1].open, 1);
  EXPECT_EQ(series[1].refused, 1);
  EXPECT_EQ(series[1].refusal->max, Ms(20));
  EXPECT_EQ(series[1].output_tokens, 1);
  EXPECT_EQ(series[1].ttft->max, Ms(1200));
  EXPECT_EQ(series[2].completed, 1);
  EXPECT_EQ(series[2].open, 0);
  EXPECT_EQ(series[2].itl->max, Ms(1200));
  EXPECT_TRUE(SeriesOf({}).empty());
}

TEST(LoadFiguresTest, WritesOneJsonObject) {
  LoadReport report;
  report.offered_rate = 2.5;
  report.duration = absl::Seconds(4);
  report.records = {Reply(0, 0, {100, 150}), Error(0, 5, absl::StatusCode::kUnavailable)};
  report.records[0].resumptions = 2;
  report.records[1].load_class = LoadClass::kImages;
  const auto object = nlohmann::ordered_json::parse(JsonOf(report));
  std::vector<std::string> names;
  for (const auto& [name, value] : object.items()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"offered_rate", "seconds", "requests", "completed",
                                             "refused", "failed", "resumptions", "errors",
                                             "output_tokens_per_second", "goodput", "ttft_ms",
                                             "itl_ms", "tpot_ms", "e2e_ms", "by_class", "series"}));
  EXPECT_EQ(object["seconds"], 4.0);
  EXPECT_EQ(object["resumptions"], 2);
  EXPECT_EQ(object["ttft_ms"]["p50"], 100.0);
  EXPECT_EQ(object["errors"]["UNAVAILABLE"], 1);
  EXPECT_EQ(object["by_class"].size(), kLoadClasses.size());
  EXPECT_EQ(object["by_class"]["text"]["completed"], 1);
  EXPECT_EQ(object["by_class"]["images"]["failed"], 1);
  EXPECT_TRUE(object["by_class"]["image"]["ttft_ms"].is_null());
  EXPECT_EQ(object["series"].size(), 1u);
}

}  // namespace
}  // namespace minicpmv
