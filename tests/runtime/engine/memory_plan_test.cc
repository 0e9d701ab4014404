#include "runtime/engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

std::string Text(const std::vector<LayerRange>& ranges) {
  std::string text;
  for (const LayerRange& range : ranges) {
    absl::StrAppend(&text, text.empty() ? "" : ",", range.first, "-", range.last - 1);
  }
  return text;
}

std::string Balanced(const DecoderBytes& bytes, int stages) {
  return Text(BalanceLayers(bytes, stages).value());
}

TEST(BalanceLayersTest, CountsTheHeadToTheLastStage) {
  // The published widths: the head weighs as much as two layers and a third.
  EXPECT_EQ(Balanced({std::vector<uint64_t>(4, 466), 1090, 1090}, 2), "0-2,3-3");
  EXPECT_EQ(Balanced({std::vector<uint64_t>(28, 466), 1090, 1090}, 1), "0-27");
  EXPECT_EQ(Balanced({std::vector<uint64_t>(28, 466), 1090, 1090}, 2), "0-14,15-27");
  EXPECT_EQ(Balanced({std::vector<uint64_t>(6, 1), 0, 0}, 3), "0-1,2-3,4-5");
}

TEST(BalanceLayersTest, EveryStageHasALayer) {
  EXPECT_EQ(Balanced({{1, 1, 1000}, 0, 0}, 3), "0-0,1-1,2-2");
  EXPECT_EQ(Balanced({{1, 1, 1}, 0, 1000}, 3), "0-0,1-1,2-2");
  EXPECT_TRUE(absl::IsInvalidArgument(BalanceLayers({{1, 1}, 0, 0}, 3).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(BalanceLayers({{1, 1}, 0, 0}, 0).status()));
}

// Every split of a few layers, tried one by one.
uint64_t SmallestLargest(const DecoderBytes& bytes, int stages, size_t first) {
  uint64_t sum = 0;
  uint64_t best = std::numeric_limits<uint64_t>::max();
  for (size_t next = first + 1; next <= bytes.layers.size(); ++next) {
    sum += bytes.layers[next - 1];
    if (stages == 1) {
      if (next == bytes.layers.size()) return sum + bytes.head;
    } else if (bytes.layers.size() - next >= static_cast<size_t>(stages - 1)) {
      best = std::min(best, std::max(sum, SmallestLargest(bytes, stages - 1, next)));
    }
  }
  return best;
}

TEST(BalanceLayersTest, NoSplitHasASmallerLargestStage) {
  std::mt19937 random(1);
  for (int run = 0; run < 200; ++run) {
    DecoderBytes bytes;
    bytes.layers.resize(1 + random() % 9);
    for (uint64_t& layer : bytes.layers) layer = random() % 100;
    bytes.head = random() % 300;
    const int stages = 1 + random() % bytes.layers.size();
    const auto ranges = BalanceLayers(bytes, stages).value();
    ASSERT_EQ(ranges.size(), static_cast<size_t>(stages));
    uint64_t largest = 0;
    int64_t next = 0;
    for (const LayerRange& range : ranges) {
      ASSERT_EQ(range.first, next);
      ASSERT_GE(range.count(), 1);
      next = range.last;
      uint64_t sum = next == static_cast<int64_t>(bytes.layers.size()) ? bytes.head : 0;
      for (int64_t i = range.first; i < range.last; ++i) sum += bytes.layers[i];
      largest = std::max(largest, sum);
    }
    EXPECT_EQ(next, static_cast<int64_t>(bytes.layers.size()));
    EXPECT_EQ(largest, SmallestLargest(bytes, stages, 0));
  }
}

TEST(ParseSplitTest, ReadsRunsOfLayers) {
  EXPECT_EQ(Text(ParseSplit("0-2,3-4", 5, 2).value()), "0-2,3-4");
  EXPECT_EQ(Text(ParseSplit("0,1-4", 5, 2).value()), "0-0,1-4");
  EXPECT_EQ(Text(ParseSplit("0-4", 5, 1).value()), "0-4");
}

TEST(ParseSplitTest, SaysWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "no run of layers"},
      {"0-2,", "no run of layers"},
      {"0-2;3-4", "no run of layers"},
      {"a-b", "no run of layers"},
      {"0-2-4", "no run of layers"},
      {"-1-4", "no run of layers"},
      {" 0-2,3-4", "no run of layers"},
      {"+0-2,3-4", "no run of layers"},
      {"0-99999999999999999999,3", "no run of layers"},
      {"2-0,3-4", "ends before it begins"},
      {"0-2,3-5", "no layer 5"},
      {"0-1,3-4", "layer 2 is missing"},
      {"1-2,3-4", "layer 0 is missing"},
      {"0-2,2-4", "layer 2 of \"2-4\" comes again"},
      {"0-1,2-3", "layer 4 is missing at the end"},
      {"0-1,2-3,4-4", "3 runs of layers for 2 devices"},
      {"0-4", "1 runs of layers for 2 devices"},
  };
  for (const auto& [text, why] : cases) {
    const absl::Status status = ParseSplit(text, 5, 2).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why)) << text;
  }
}

TEST(PagesWithinTest, TheScarcestStageDecides) {
  EXPECT_EQ(PagesWithin({{1000, 10}, {1000, 30}}).value(), 33);
  EXPECT_TRUE(absl::IsResourceExhausted(PagesWithin({{1000, 10}, {29, 30}}).status()));
  EXPECT_EQ(PagesWithin({{std::numeric_limits<uint64_t>::max(), 1}}).value(),
            std::numeric_limits<int32_t>::max());
}

TEST(PagesForSequencesTest, StaysWithinWhatAPageNumberNames) {
  EXPECT_EQ(PagesForSequences(4, 100), 28);
  EXPECT_EQ(PagesForSequences(int64_t{1} << 62, int64_t{1} << 62),
            std::numeric_limits<int32_t>::max());
}

}  // namespace
}  // namespace minicpmv
