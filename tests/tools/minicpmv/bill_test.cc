#include "tools/minicpmv/bill.h"

#include "gtest/gtest.h"

namespace minicpmv {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

TEST(BillTest, CountsNoMomentTwice) {
  Bill bill;
  bill.Begin(At(0));
  bill.Add(BillStage::kMedia, At(0), At(1));
  bill.Add(BillStage::kEncode, At(1), At(3));
  bill.Add(BillStage::kEncode, At(4), At(6));
  bill.Add(BillStage::kPrefill, At(0.5), At(8));
  bill.Add(BillStage::kDecode, At(8), At(9));
  bill.End(At(9));
  EXPECT_EQ(bill.Spent(BillStage::kMedia), absl::Seconds(1));
  EXPECT_EQ(bill.Spent(BillStage::kEncode), absl::Seconds(4));
  EXPECT_EQ(bill.Spent(BillStage::kPrefill), absl::Seconds(3));  // [3, 4] and [6, 8]
  EXPECT_EQ(bill.Spent(BillStage::kDecode), absl::Seconds(1));
  EXPECT_EQ(bill.Spent(BillStage::kQueue), absl::ZeroDuration());
  EXPECT_EQ(bill.total(), absl::Seconds(9));
}

TEST(BillTest, CountsNothingForASpanThatOthersCover) {
  Bill bill;
  bill.Add(BillStage::kEncode, At(0), At(5));
  bill.Add(BillStage::kPrefill, At(1), At(2));
  bill.Add(BillStage::kPrefill, At(6), At(7));
  EXPECT_EQ(bill.Spent(BillStage::kPrefill), absl::Seconds(1));
}

}  // namespace
}  // namespace minicpmv
