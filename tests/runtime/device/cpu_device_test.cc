#include "runtime/device/cpu_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

namespace minicpmv {
namespace {

// Bytes of the process that are in memory.
size_t ResidentBytes() {
  FILE* file = std::fopen("/proc/self/statm", "r");
  size_t all = 0, resident = 0;
  EXPECT_EQ(std::fscanf(file, "%zu %zu", &all, &resident), 2);
  std::fclose(file);
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

TEST(CpuDeviceTest, GivesAlignedZeroBytes) {
  CpuDevice device("cpu:0", 1);
  EXPECT_EQ(device.name(), "cpu:0");
  for (size_t size : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{4097},
                      (size_t{256} << 10) - 1, size_t{256} << 10, size_t{3} << 20}) {
    absl::StatusOr<std::unique_ptr<Buffer>> buffer = device.Allocate(size);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ((*buffer)->size(), size);
    ASSERT_NE((*buffer)->data(), nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*buffer)->data()) % 64, 0u);
    uint8_t* bytes = static_cast<uint8_t*>((*buffer)->data());
    for (size_t i = 0; i < size; ++i) {
      ASSERT_EQ(bytes[i], 0);
      bytes[i] = 0xff;
    }
  }
}

TEST(CpuDeviceTest, ChargesNothingForBytesThatNobodyTouched) {
  CpuDevice device("cpu:0", 1);
  const size_t before = ResidentBytes();
  absl::StatusOr<std::unique_ptr<Buffer>> buffer = device.Allocate(size_t{256} << 20);
  ASSERT_TRUE(buffer.ok());
  EXPECT_LT(ResidentBytes(), before + (size_t{16} << 20));
}

TEST(CpuDeviceTest, SaysWhenItHasNoRoom) {
  CpuDevice device("cpu:7", 1);
  for (size_t size : {std::numeric_limits<size_t>::max(), size_t{1} << 50}) {
    const absl::Status status = device.Allocate(size).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(status.message(), testing::HasSubstr("cpu:7"));
  }
}

TEST(CpuStreamTest, WorksInTheOrderQueued) {
  CpuDevice device("cpu:0", 2);
  const std::unique_ptr<Stream> stream = device.NewStream();
  std::vector<int> seen;
  for (int i = 0; i < 1000; ++i) stream->Call([&seen, i] { seen.push_back(i); });
  EXPECT_TRUE(stream->Wait().ok());
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

TEST(CpuStreamTest, ReturnsBeforeTheWorkIsDone) {
  CpuDevice device("cpu:0", 1);
  const std::unique_ptr<Stream> stream = device.NewStream();
  std::atomic<bool> queued = false;
  stream->Call([&] {
    while (!queued) std::this_thread::yield();
  });
  stream->Call([] {});
  queued = true;
  EXPECT_TRUE(stream->Wait().ok());
}

TEST(CpuStreamTest, LetsWorkQueueMoreWork) {
  CpuDevice device("cpu:0", 1);
  const std::unique_ptr<Stream> first = device.NewStream();
  const std::unique_ptr<Stream> second = device.NewStream();
  int last = 0;
  first->Call([&] {
    second->Call([&] { last = 1; });
    first->Call([&] { second->Call([&] { last = 2; }); });
  });
  EXPECT_TRUE(first->Wait().ok());  // the first piece
  EXPECT_TRUE(first->Wait().ok());  // what it queued
  EXPECT_TRUE(second->Wait().ok());
  EXPECT_EQ(last, 2);
}

TEST(CpuStreamTest, DoesWhatIsQueuedBeforeItEnds) {
  CpuDevice device("cpu:0", 1);
  int done = 0;
  {
    const std::unique_ptr<Stream> stream = device.NewStream();
    for (int i = 0; i < 100; ++i) stream->Call([&done] { ++done; });
  }
  EXPECT_EQ(done, 100);
}

TEST(CpuStreamTest, GivesBackWhatWorkHoldsBeforeWaitReturns) {
  CpuDevice device("cpu:0", 1);
  const std::unique_ptr<Stream> stream = device.NewStream();
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> watched = held;
  stream->Call([held = std::move(held)] { ++*held; });
  EXPECT_TRUE(stream->Wait().ok());
  EXPECT_TRUE(watched.expired());
}

TEST(CpuStreamTest, LetsManyThreadsQueueAndWait) {
  CpuDevice device("cpu:0", 1);
  const std::unique_ptr<Stream> stream = device.NewStream();
  int done = 0;  // no atomic: one stream, one piece of work at a time
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        stream->Call([&done] { ++done; });
        if (i % 50 == 0) {
          EXPECT_TRUE(stream->Wait().ok());
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_TRUE(stream->Wait().ok());
  EXPECT_EQ(done, 2000);
}

TEST(CpuStreamTest, TakesTurnsWithOtherStreamsInThePool) {
  CpuDevice device("cpu:0", 2);
  const std::unique_ptr<Stream> streams[] = {device.NewStream(), device.NewStream(),
                                             device.NewStream()};
  int64_t sums[3] = {};
  for (int round = 0; round < 200; ++round) {
    for (int s = 0; s < 3; ++s) {
      streams[s]->Call([&device, &sum = sums[s]] {
        std::atomic<int64_t> round_sum = 0;
        device.pool().Run(5, [&](int64_t task) { round_sum += task; });
        sum += round_sum;
      });
    }
  }
  for (const std::unique_ptr<Stream>& stream : streams) EXPECT_TRUE(stream->Wait().ok());
  for (int64_t sum : sums) EXPECT_EQ(sum, 200 * 10);
}

}  // namespace
}  // namespace minicpmv
