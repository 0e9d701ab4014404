#include "services/router/request_bill.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/durations.h"

namespace minicpmv::router {
namespace {

constexpr auto kArrival = absl::UnixEpoch();

common::v1::Bill BillOf(common::v1::Work work, int start_ms, int end_ms, int busy_ms) {
  common::v1::Bill bill;
  common::v1::BillLine& line = *bill.add_lines();
  line.set_work(work);
  *line.mutable_start() = ToProto(absl::Milliseconds(start_ms));
  *line.mutable_end() = ToProto(absl::Milliseconds(end_ms));
  *line.mutable_busy() = ToProto(absl::Milliseconds(busy_ms));
  return bill;
}

absl::Duration Of(const google::protobuf::Duration& duration) { return *DurationFrom(duration); }

TEST(RequestBillTest, PlacesAWorkersTimesWhereItsCallWasOpened) {
  RequestBill bill(kArrival);
  bill.Add(kArrival + absl::Milliseconds(100), BillOf(common::v1::WORK_PREFILL, 10, 60, 30));
  const chat::v1::Bill made = bill.At(kArrival + absl::Seconds(1));
  ASSERT_EQ(made.stages_size(), 1);
  EXPECT_EQ(made.stages(0).stage(), "prefill");
  EXPECT_EQ(Of(made.stages(0).start()), absl::Milliseconds(110));
  EXPECT_EQ(Of(made.stages(0).end()), absl::Milliseconds(160));
  EXPECT_EQ(Of(made.prefill()), absl::Milliseconds(30));
  EXPECT_EQ(Of(made.decode()), absl::ZeroDuration());
  EXPECT_EQ(Of(made.total()), absl::Seconds(1));
}

TEST(RequestBillTest, LetsStepsStandForABillThatDidNotCome) {
  RequestBill bill(kArrival);
  for (int i = 0; i < 3; ++i) {
    bill.AddStep(kArrival, ToProto(absl::Milliseconds(10 * i)),
                 ToProto(absl::Milliseconds(10 * i + 5)));
  }
  bill.CloseSteps(/*has_bill=*/false);
  bill.AddStep(kArrival, ToProto(absl::Seconds(1)), ToProto(absl::Seconds(2)));
  bill.Add(kArrival, BillOf(common::v1::WORK_DECODE, 1000, 1100, 100));
  bill.CloseSteps(/*has_bill=*/true);
  const chat::v1::Bill made = bill.At(kArrival);
  EXPECT_EQ(Of(made.decode()), absl::Milliseconds(115));
  ASSERT_EQ(made.stages_size(), 2);
  EXPECT_EQ(Of(made.stages(0).end()), absl::Milliseconds(25));
}

TEST(RequestBillTest, CountsNothingThatCannotBe) {
  RequestBill bill(kArrival);
  bill.Add(kArrival, BillOf(common::v1::WORK_ENCODE, 50, 20, 10));
  bill.Add(kArrival, BillOf(common::v1::WORK_UNSPECIFIED, 0, 20, 10));
  common::v1::Bill endless = BillOf(common::v1::WORK_ENCODE, 0, 20, 10);
  endless.mutable_lines(0)->mutable_end()->set_seconds(std::numeric_limits<int64_t>::max());
  bill.Add(kArrival, endless);
  bill.Add(kArrival, BillOf(common::v1::WORK_ENCODE, 0, 20, 50));
  EXPECT_EQ(Of(bill.At(kArrival).encode()), absl::Milliseconds(20));
}

}  // namespace
}  // namespace minicpmv::router
