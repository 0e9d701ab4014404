#include "services/common/post_thread.h"

#include <utility>

namespace minicpmv {

PostThread::PostThread() : thread_([this] { Run(); }) {}

PostThread::~PostThread() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void PostThread::Post(absl::AnyInvocable<void()> call) {
  // Notifies under the lock: what is called may be what another thread waits for to end this.
  const std::lock_guard<std::mutex> lock(mutex_);
  posted_.push_back(std::move(call));
  changed_.notify_one();
}

void PostThread::After(absl::Duration delay, absl::AnyInvocable<void()> call) {
  const Time due = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(delay);
  const std::lock_guard<std::mutex> lock(mutex_);
  later_.emplace(due, std::move(call));
  changed_.notify_one();
}

void PostThread::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    if (!later_.empty() && later_.begin()->first <= std::chrono::steady_clock::now()) {
      posted_.push_back(std::move(later_.begin()->second));
      later_.erase(later_.begin());
    }
    if (!posted_.empty()) {
      absl::AnyInvocable<void()> call = std::move(posted_.front());
      posted_.pop_front();
      lock.unlock();
      call();
      call = nullptr;
      lock.lock();
    } else if (is_ending_) {
      return;
    } else if (later_.empty()) {
      changed_.wait(lock);
    } else {
      const Time due =
          later_.begin()->first;  // another may come before it, or end this one's entry
      changed_.wait_until(lock, due);
    }
  }
}

}  // namespace minicpmv
