#include "runtime/device/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>
#include <vector>

namespace minicpmv {
namespace {

TEST(ThreadPoolTest, CallsEveryTaskOnce) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(tasks));
      pool.Run(tasks, [&](int64_t task) { ++calls[static_cast<size_t>(task)]; });
      for (const std::atomic<int>& count : calls) ASSERT_EQ(count, 1);
    }
  }
}

TEST(ThreadPoolTest, ShowsTheCallerWhatTheTasksWrote) {
  ThreadPool pool(3);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int> plain(16);  // no atomics: Run itself orders the accesses
    pool.Run(16, [&](int64_t task) { plain[static_cast<size_t>(task)] = round; });
    for (int value : plain) ASSERT_EQ(value, round);
  }
}

TEST(ThreadPoolTest, UsesAllItsThreadsAtOnce) {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads);
  std::mutex mutex;
  std::condition_variable arrived;
  int present = 0;
  pool.Run(kThreads, [&](int64_t) {  // ends only if all tasks run at the same time
    std::unique_lock<std::mutex> lock(mutex);
    if (++present == kThreads) arrived.notify_all();
    arrived.wait(lock, [&] { return present == kThreads; });
  });
  EXPECT_EQ(present, kThreads);
}

TEST(ThreadPoolTest, RunsOnTheCallerWhenItIsAlone) {
  ThreadPool pool(1);
  pool.Run(5, [caller = std::this_thread::get_id()](int64_t) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
}

TEST(ThreadPoolTest, LetsCallersTakeTurns) {
  ThreadPool pool(2);
  std::atomic<int> inside = 0;
  std::vector<std::thread> callers;
  std::atomic<int64_t> sum = 0;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 300; ++round) {
        pool.Run(4, [&](int64_t task) {
          EXPECT_LE(++inside, 2);
          sum += task;
          --inside;
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 300 * 6);
}

TEST(ThreadPoolTest, SleepsWhileThereIsNothingToDo) {
  ThreadPool pool(4);
  pool.Run(64, [](int64_t) {});
  const std::clock_t before = std::clock();  // of the whole process
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 20);
}

TEST(ThreadPoolDeathTest, NeedsAThread) { EXPECT_DEATH(ThreadPool(0), "CHECK failed"); }

}  // namespace
}  // namespace minicpmv
