#include "services/prefill/rows_arrivals.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "runtime/device/cpu_device.h"

namespace minicpmv::prefill {
namespace {

constexpr int64_t kHidden = 8;

// Spans of 4 rows; the first lies within what is held.
class RowsArrivalsTest : public ::testing::Test {
 protected:
  static ParcelLabel LabelOf(int64_t span, int64_t first, int64_t count) {
    ParcelLabel label;
    label.kind = ParcelKind::kRows;
    label.index = span;
    label.first = first;
    label.count = count;
    label.dtype = DType::kBF16;
    label.bytes = static_cast<uint64_t>(count) * kHidden * 2;
    return label;
  }
  bool Refuses(const ParcelLabel& label) {
    return absl::IsInvalidArgument(arrivals_->Place(label).status());
  }

  CpuDevice device_{"cpu", 1};
  absl::StatusOr<RowsArrivals> arrivals_ = RowsArrivals::Create(
      device_, {{12, 4, ""}, {16, 4, ""}, {30, 4, ""}}, /*held_tokens=*/16, kHidden, DType::kBF16);
};

TEST_F(RowsArrivalsTest, GivesTheRowsOfASpanWhenAllAreHere) {
  const ParcelLabel back = LabelOf(2, 3, 1), front = LabelOf(2, 0, 3), other = LabelOf(1, 0, 4);
  const auto place = arrivals_->Place(back);
  ASSERT_TRUE(place.ok());
  ASSERT_TRUE(arrivals_->Place(other).ok());
  const auto start = arrivals_->Place(front);
  ASSERT_TRUE(start.ok());
  EXPECT_FALSE(arrivals_->Landed(front, true).has_value());
  EXPECT_TRUE(arrivals_->Landed(other, true).has_value());
  EXPECT_EQ(arrivals_->landed_spans(), 1);
  const auto rows = arrivals_->Landed(back, true);
  ASSERT_TRUE(rows.has_value());
  EXPECT_EQ(rows->data, (*start)[0].data);
  EXPECT_EQ(rows->shape, (Shape{4, kHidden}));
  EXPECT_EQ((*place)[0].data, static_cast<const uint8_t*>(rows->data) + 3 * kHidden * 2);
  EXPECT_EQ(arrivals_->landed_spans(), 2);
}

TEST_F(RowsArrivalsTest, RefusesALabelThatLies) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  for (const ParcelLabel& label :
       {LabelOf(0, 0, 4), LabelOf(3, 0, 4), LabelOf(-1, 0, 4), LabelOf(1, 4, 1), LabelOf(1, 0, 5),
        LabelOf(1, -1, 2), LabelOf(1, 3, 2), LabelOf(1, 0, 0), LabelOf(1, 2, -1),
        LabelOf(kHuge, 0, 4), LabelOf(1, kHuge, 1), LabelOf(1, 1, kHuge)}) {
    EXPECT_TRUE(Refuses(label)) << label.index << " " << label.first << " " << label.count;
  }
  ParcelLabel label = LabelOf(1, 0, 4);
  label.kind = ParcelKind::kPixels;
  EXPECT_TRUE(Refuses(label));
  label = LabelOf(1, 0, 4);
  label.dtype = DType::kF16;
  EXPECT_TRUE(Refuses(label));
  label = LabelOf(1, 0, 4);
  ++label.bytes;
  EXPECT_TRUE(Refuses(label));
  EXPECT_EQ(arrivals_->landed_spans(), 0);
}

TEST_F(RowsArrivalsTest, TakesARowOnceUnlessItDidNotCome) {
  ASSERT_TRUE(arrivals_->Place(LabelOf(1, 1, 2)).ok());
  EXPECT_TRUE(Refuses(LabelOf(1, 2, 2)));
  arrivals_->Landed(LabelOf(1, 1, 2), false);
  ASSERT_TRUE(arrivals_->Place(LabelOf(1, 0, 4)).ok());
  EXPECT_TRUE(arrivals_->Landed(LabelOf(1, 0, 4), true).has_value());
  EXPECT_TRUE(Refuses(LabelOf(1, 0, 1)));
}

}  // namespace
}  // namespace minicpmv::prefill
