#include "tools/minicpmv/restart_policy.h"

#include "gtest/gtest.h"

namespace minicpmv {
namespace {

constexpr absl::Time kStart = absl::UnixEpoch();

TEST(RestartPolicyTest, WaitsTwiceAsLongEachTimeUpToEightSeconds) {
  RestartPolicy policy;
  for (const double seconds : {0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0}) {
    EXPECT_EQ(policy.Ended(kStart), absl::Seconds(seconds));
  }
}

TEST(RestartPolicyTest, BeginsAnewAfterTenHealthySeconds) {
  RestartPolicy policy;
  policy.Ended(kStart);
  policy.Ended(kStart);
  policy.Ready(kStart);
  EXPECT_EQ(policy.Ended(kStart + absl::Seconds(10)), absl::Seconds(0.5));
  EXPECT_EQ(policy.Ended(kStart + absl::Seconds(11)), absl::Seconds(1));
}

TEST(RestartPolicyTest, CountsOnlyFromReadinessOn) {
  RestartPolicy policy;
  policy.Ended(kStart);
  policy.Ready(kStart + absl::Seconds(100));
  EXPECT_EQ(policy.Ended(kStart + absl::Seconds(109.9)), absl::Seconds(1));
  // Was never ready, however long it took.
  EXPECT_EQ(policy.Ended(kStart + absl::Seconds(1000)), absl::Seconds(2));
}

}  // namespace
}  // namespace minicpmv
