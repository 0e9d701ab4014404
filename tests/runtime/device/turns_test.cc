#include "runtime/device/turns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "runtime/device/cpu_device.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;

class SetClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + absl::Milliseconds(now.load()); }
  std::atomic<int64_t> now = 0;  // milliseconds
};

TEST(TurnsTest, YieldIsNothingWhereNobodyWaits) {
  SetClock clock;
  Turns turns(clock);
  turns.Take();
  turns.Yield();
  turns.End();
  turns.Take();
  turns.End();
}

TEST(TurnsTest, WhoeverWaitsIsNext) {
  SetClock clock;
  Turns turns(clock);
  turns.Take();
  std::atomic<bool> had_turn = false;
  std::thread other([&] {
    turns.Take();
    had_turn = true;
    turns.End();
  });
  while (!had_turn) turns.Yield();  // ends once the other has asked
  turns.End();
  other.join();
}

TEST(TurnsTest, AfterALongTurnASmallPieceOfWorkIsFollowedByMore) {
  SetClock clock;
  Turns turns(clock);
  turns.Take();
  std::atomic<bool> asks = false;
  std::vector<int64_t> had;  // when the other had the turn
  std::thread other([&] {
    asks = true;
    turns.Take();
    for (int piece = 0; piece < 8; ++piece) {
      had.push_back(clock.now);
      clock.now += 10;
      turns.Yield();
    }
    turns.End();
  });
  while (!asks) std::this_thread::yield();
  clock.now = 100;
  // Nothing happens before the other waits, and it cannot have the turn twice before it gives way.
  while (clock.now == 100) turns.Yield();
  EXPECT_EQ(clock.now, 140) << "a third of 100, in pieces of 10";
  clock.now += 1;
  turns.End();
  other.join();
  EXPECT_THAT(had, ElementsAre(100, 110, 120, 130, 141, 151, 161, 171));
}

TEST(TurnsTest, AStreamThatHasAlwaysWorkLetsAnotherOneWorkWhereItSaysSo) {
  CpuDevice device("cpu:0", 1);
  const std::unique_ptr<Stream> one = device.NewStream(), two = device.NewStream();
  std::atomic<bool> two_has_worked = false;
  std::function<void()> go_on = [&] {
    if (two_has_worked) return;
    one->Yield();
    one->Call(go_on);
  };
  one->Call(go_on);
  two->Call([&] { two_has_worked = true; });
  ASSERT_TRUE(two->Wait().ok());
  ASSERT_TRUE(one->Wait().ok());
}

}  // namespace
}  // namespace minicpmv
