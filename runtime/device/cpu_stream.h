#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "runtime/device/device.h"
#include "runtime/device/turns.h"

namespace minicpmv {

// A queue of work with a thread of its own that sleeps while nothing is queued. It works while it
// has the turn, which it takes when something is queued and keeps until nothing is.
class CpuStream final : public Stream {
 public:
  // The turns outlive it.
  explicit CpuStream(Turns& turns);
  ~CpuStream() override;

  void Call(absl::AnyInvocable<void()> work) override;
  void Yield() override;
  // Always OK: a CPU that fails takes the process with it.
  absl::Status Wait() override;

 private:
  void Work();

  Turns& turns_;
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
