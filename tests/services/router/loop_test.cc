#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/task.h"
#include "services/router/thread_loop.h"
#include "services/router/virtual_loop.h"

namespace minicpmv::router {
namespace {

using ::testing::ElementsAre;

TEST(ThreadLoopTest, CallsInOrderOnOneThread) {
  ThreadLoop loop;
  std::vector<int> seen;
  for (int i = 0; i < 3; ++i) loop.Post([&seen, i] { seen.push_back(i); });
  std::thread::id thread;
  loop.Run([&] { thread = std::this_thread::get_id(); });
  EXPECT_THAT(seen, ElementsAre(0, 1, 2));
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(ThreadLoopTest, TakesCallsFromManyThreads) {
  ThreadLoop loop;
  int64_t sum = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 1000; ++j) loop.Post([&sum] { ++sum; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  loop.Run([] {});
  EXPECT_EQ(sum, 4000);
}

TEST(ThreadLoopTest, RingsAlarmsInOrderAndNotThoseThatAreGone) {
  ThreadLoop loop;
  std::vector<int> seen;
  std::vector<std::unique_ptr<Loop::Alarm>> alarms;
  std::atomic<bool> is_done = false;
  loop.Run([&] {
    const absl::Time now = loop.Now();
    alarms.push_back(loop.At(now + absl::Milliseconds(20), [&] {
      seen.push_back(2);
      is_done = true;
      is_done.notify_one();
    }));
    alarms.push_back(loop.At(now, [&] { seen.push_back(1); }));
    loop.At(now + absl::Milliseconds(1), [&] { seen.push_back(100); }).reset();
  });
  is_done.wait(false);
  loop.Run([&] { alarms.clear(); });
  EXPECT_THAT(seen, ElementsAre(1, 2));
}

TEST(VirtualLoopTest, JumpsFromAlarmToAlarm) {
  VirtualLoop loop;
  const absl::Time start = loop.Now();
  std::vector<absl::Duration> seen;
  const auto late = loop.At(start + absl::Hours(5), [&] { seen.push_back(loop.Now() - start); });
  const auto soon = loop.At(start + absl::Seconds(1), [&] { seen.push_back(loop.Now() - start); });
  loop.Post([&] { seen.push_back(loop.Now() - start); });
  loop.RunFor(absl::Hours(6));
  EXPECT_THAT(seen, ElementsAre(absl::ZeroDuration(), absl::Seconds(1), absl::Hours(5)));
  EXPECT_EQ(loop.Now(), start + absl::Hours(6));
}

struct Gone {
  explicit Gone(bool& flag) : flag(flag) {}
  ~Gone() { flag = true; }
  bool& flag;
};

Task<int> Inner(Signal& signal, const bool& may_go_on, bool& is_gone) {
  const Gone gone(is_gone);
  co_await signal.Until([&] { return may_go_on; });
  co_return 7;
}

Task<bool> Outer(Signal& signal, const bool& may_go_on, bool& is_gone, int& result) {
  result = co_await Inner(signal, may_go_on, is_gone);
  co_return true;
}

TEST(TaskTest, WaitsUntilItHoldsAndGoesOnFromTheLoop) {
  VirtualLoop loop;
  Signal signal(loop);
  bool may_go_on = false, is_gone = false;
  int result = 0;
  Task<bool> task = Outer(signal, may_go_on, is_gone, result);
  task.Start();
  signal.Notify();
  loop.RunFor(absl::ZeroDuration());
  EXPECT_EQ(result, 0);
  may_go_on = true;
  signal.Notify();
  EXPECT_EQ(result, 0);
  loop.RunFor(absl::ZeroDuration());
  EXPECT_EQ(result, 7);
  EXPECT_TRUE(is_gone);
}

TEST(TaskTest, LetsGoOfWhatItHoldsWhereverItWaits) {
  VirtualLoop loop;
  Signal signal(loop);
  bool may_go_on = false, is_gone = false;
  int result = 0;
  {
    Task<bool> task = Outer(signal, may_go_on, is_gone, result);
    task.Start();
    EXPECT_FALSE(is_gone);
  }
  EXPECT_TRUE(is_gone);
  EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace minicpmv::router
