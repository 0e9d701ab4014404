#include "runtime/device/cpu_stream.h"

#include <utility>

namespace minicpmv {

CpuStream::CpuStream(Turns& turns) : turns_(turns), thread_([this] { Work(); }) {}

CpuStream::~CpuStream() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  queued_.notify_one();
  thread_.join();
}

void CpuStream::Call(absl::AnyInvocable<void()> work) {
  bool wake;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(work));
    ++queued_count_;
    wake = std::exchange(
        sleeping_, false);  // one wake-up for each sleep, however much is queued until it ends
  }
  if (wake) queued_.notify_one();
}

void CpuStream::Yield() {
  Call([this] { turns_.Yield(); });
}

absl::Status CpuStream::Wait() {
  std::unique_lock<std::mutex> lock(mutex_);
  const int64_t last = queued_count_;
  ++waiting_;
  ended_.wait(lock, [&] { return ended_count_ >= last; });
  --waiting_;
  return absl::OkStatus();
}

void CpuStream::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  bool has_turn = false;
  while (true) {
    if (queue_.empty() && std::exchange(has_turn, false)) turns_.End();
    while (queue_.empty() && !stop_) {
      sleeping_ = true;
      queued_.wait(lock);
    }
    if (queue_.empty()) return;
    absl::AnyInvocable<void()> work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    if (!std::exchange(has_turn, true)) turns_.Take();
    std::move(work)();
    work = nullptr;  // what it holds is given back before its end is told
    lock.lock();
    ++ended_count_;
    if (waiting_ > 0) ended_.notify_all();
  }
}

}  // namespace minicpmv
