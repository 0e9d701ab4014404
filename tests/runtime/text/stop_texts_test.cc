#include "runtime/text/stop_texts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "runtime/text/utf8.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

StopTexts Stops(std::vector<std::string> texts) {
  absl::StatusOr<StopTexts> stops = StopTexts::Create(std::move(texts));
  EXPECT_TRUE(stops.ok()) << stops.status();
  return *std::move(stops);
}

std::vector<std::string> Sent(StopTexts stops, const std::vector<std::string>& pieces) {
  std::vector<std::string> sent;
  for (const std::string& piece : pieces) sent.push_back(stops.Push(piece));
  sent.push_back(stops.Finish());
  return sent;
}

TEST(StopTextsTest, LetsEverythingThroughAtOnceWithoutStops) {
  EXPECT_THAT(Sent(Stops({}), {"a", "", "b"}), ElementsAre("a", "", "b", ""));
}

TEST(StopTextsTest, HoldsBackOnlyWhatCouldBecomeAStop) {
  EXPECT_THAT(Sent(Stops({"END"}), {"one E", "N", "x", "EN"}),
              ElementsAre("one ", "", "ENx", "", "EN"));
}

TEST(StopTextsTest, SendsNothingOfOrAfterAStopSplitOverPieces) {
  StopTexts stops = Stops({"\n\nUser:"});
  EXPECT_EQ(stops.Push("Yes.\n"), "Yes.");
  EXPECT_EQ(stops.Push("\nUs"), "");
  EXPECT_FALSE(stops.stopped());
  EXPECT_EQ(stops.Push("er: more"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.Push("even more"), "");
  EXPECT_EQ(stops.Finish(), "");
}

TEST(StopTextsTest, FindsAStopThatOverlapsItself) {
  EXPECT_THAT(Sent(Stops({"aab"}), {"a", "a", "a", "b"}), ElementsAre("", "", "a", "", ""));
  EXPECT_THAT(Sent(Stops({"abab"}), {"xabaab", "ab"}), ElementsAre("xaba", "", ""));
}

TEST(StopTextsTest, TheStopThatEndsFirstCountsAndOfThoseTheLongest) {
  EXPECT_THAT(Sent(Stops({"abcd", "bc"}), {"xabcd"}), ElementsAre("xa", ""));
  EXPECT_THAT(Sent(Stops({"bc", "abc"}), {"xabcd"}), ElementsAre("x", ""));
  EXPECT_THAT(Sent(Stops({"a", "abc"}), {"xabc"}), ElementsAre("x", ""));
}

TEST(StopTextsTest, CutsBetweenWholeCharacters) {
  EXPECT_THAT(Sent(Stops({"é", "中文"}), {"è", "中", "国", "中文"}),
              ElementsAre("è", "", "中国", "", ""));
}

TEST(StopTextsTest, RefusesStopsThatAreEmptyTooManyTooLongOrBroken) {
  const auto refusal = [](std::vector<std::string> texts) {
    const absl::Status status = StopTexts::Create(std::move(texts)).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    return std::string(status.message());
  };
  EXPECT_THAT(refusal({"a", ""}), HasSubstr("stop text 1 is empty"));
  EXPECT_THAT(refusal(std::vector<std::string>(65, "a")), HasSubstr("65 stop texts"));
  EXPECT_THAT(refusal({std::string(1025, 'a')}), HasSubstr("1025 bytes"));
  EXPECT_THAT(refusal({"a\xC3"}), HasSubstr("not UTF-8"));
  EXPECT_TRUE(StopTexts::Create(std::vector<std::string>(64, std::string(1024, 'a'))).ok());
}

// The first place where a stop text ends, and the longest that ends there.
std::string PlainCut(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0)
        longest = std::max(longest, stop.size());
    }
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

TEST(StopTextsTest, HoweverTheTextIsSplitTheCutIsTheSame) {
  std::mt19937_64 random(3);
  const std::vector<std::string> letters = {"a", "b", "é", "è"};
  const auto draw = [&](size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += letters[random() % letters.size()];
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> texts;
    for (size_t i = 0; i < 1 + random() % 3; ++i) texts.push_back(draw(1 + random() % 6));
    const std::string text = draw(random() % 60);
    StopTexts stops = Stops(texts);
    std::string sent;
    std::string rest = text;
    while (!rest.empty()) {
      size_t length = std::min(rest.size(), 1 + random() % 5);
      while (FindInvalidUtf8(absl::string_view(rest).substr(0, length))) ++length;
      const std::string piece = stops.Push(rest.substr(0, length));
      EXPECT_EQ(FindInvalidUtf8(piece), std::nullopt);
      sent += piece;
      rest.erase(0, length);
    }
    sent += stops.Finish();
    ASSERT_EQ(sent, PlainCut(texts, text)) << text;
    EXPECT_EQ(stops.stopped(), sent.size() < text.size());
  }
}

TEST(StopTextsTest, StaysLinearWhereEveryEndIsAStart) {
  StopTexts stops = Stops({std::string(1023, 'a') + "b"});
  const std::string text(1 << 20, 'a');
  EXPECT_EQ(stops.Push(text).size(), text.size() - 1023);
  EXPECT_EQ(stops.Push("b"), "");
  EXPECT_TRUE(stops.stopped());
}

}  // namespace
}  // namespace minicpmv
