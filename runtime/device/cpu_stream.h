#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "runtime/device/device.h"

namespace minicpmv {

// A queue of work with a thread of its own that sleeps while nothing is queued.
class CpuStream final : public Stream {
 public:
  CpuStream();
  ~CpuStream() override;

  void Call(absl::AnyInvocable<void()> work) override;
  // Always OK: a CPU that fails takes the process with it.
  absl::Status Wait() override;

 private:
  void Work();

  std::mutex mutex_;
  std::condition_variable queued_;                // the thread waits here
  std::condition_variable ended_;                 // callers of Wait wait here
  std::deque<absl::AnyInvocable<void()>> queue_;  // guarded by mutex_, like all below
  int64_t queued_count_ = 0;
  int64_t ended_count_ = 0;
  int waiting_ = 0;  // callers of Wait
  bool sleeping_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace minicpmv
