#include "runtime/link/parcel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParcelLabel GoodLabel() {
  ParcelLabel label;
  label.count = 1;
  label.bytes = 1;
  return label;
}

TEST(ParcelTest, ChecksEveryNumberOfALabel) {
  EXPECT_TRUE(CheckLabel(GoodLabel()).ok());
  const auto refuses = [](auto change, const std::string& word) {
    ParcelLabel label = GoodLabel();
    change(label);
    const absl::Status status = CheckLabel(label);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << word;
    EXPECT_THAT(std::string(status.message()), HasSubstr(word));
  };
  refuses([](auto& label) { label.index = -1; }, "index");
  refuses([](auto& label) { label.index = int64_t{1} << 32; }, "index");
  refuses([](auto& label) { label.first = std::numeric_limits<int64_t>::min(); }, "first");
  refuses([](auto& label) { label.count = std::numeric_limits<int64_t>::max(); }, "count");
  refuses([](auto& label) { label.width = -1; }, "width");
  refuses([](auto& label) { label.bytes = 0; }, "size");
  refuses([](auto& label) { label.bytes = kMaxParcelBytes + 1; }, "size");
  refuses([](auto& label) { label.bytes = ~uint64_t{0}; }, "size");

  ParcelLabel step = GoodLabel();
  step.kind = ParcelKind::kActivations;
  step.index = std::numeric_limits<int64_t>::max();
  step.bytes = kMaxParcelBytes;
  EXPECT_TRUE(CheckLabel(step).ok());
}

TEST(ParcelTest, WalksOverPiecesInOrderAndOverEmptyOnes) {
  const uint8_t bytes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const auto piece = [&](int64_t first, int64_t count) {
    return ConstTensorView(bytes + first, DType::kU8, Shape{count});
  };
  ByteReader reader({piece(4, 0), piece(6, 3), piece(0, 0), piece(1, 2), piece(9, 0)});
  EXPECT_EQ(reader.left(), 5u);
  EXPECT_THAT(reader.Next(2), ElementsAre(6, 7));
  EXPECT_THAT(reader.Next(2), ElementsAre(8));
  EXPECT_EQ(reader.left(), 2u);
  EXPECT_THAT(reader.Next(100), ElementsAre(1, 2));
  EXPECT_EQ(reader.left(), 0u);
  EXPECT_TRUE(reader.Next(100).empty());
  EXPECT_TRUE(ByteReader().Next(1).empty());
}

TEST(ParcelTest, TakesThoseForOneLandingOutOfTheLine) {
  std::deque<WaitingParcel> line;
  for (uint64_t i = 0; i < 6; ++i) {
    WaitingParcel waiting;
    waiting.parcel.label.landing.slot = i % 2 + 1;
    waiting.parcel.label.index = static_cast<int64_t>(i);
    line.push_back(std::move(waiting));
  }
  const std::vector<WaitingParcel> taken = TakeFor({Incarnation{}, 2}, line);
  ASSERT_EQ(taken.size(), 3u);
  ASSERT_EQ(line.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(taken[i].parcel.label.index, static_cast<int64_t>(i * 2 + 1));
    EXPECT_EQ(line[i].parcel.label.index, static_cast<int64_t>(i * 2));
  }
  EXPECT_TRUE(TakeFor({Incarnation{7}, 1}, line).empty());
}

}  // namespace
}  // namespace minicpmv
