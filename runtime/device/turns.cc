#include "runtime/device/turns.h"

namespace minicpmv {

void Turns::Take() {
  std::unique_lock<std::mutex> lock(mutex_);
  TakeLocked(lock);
}

void Turns::Yield() {
  std::unique_lock<std::mutex> lock(mutex_);
  const bool others_wait = asked_ > ended_ + 1;
  if (!others_wait || 3 * (clock_.Now() - began_) < before_) return;
  EndLocked();
  TakeLocked(lock);
}

void Turns::End() {
  const std::lock_guard<std::mutex> lock(mutex_);
  EndLocked();
}

void Turns::EndLocked() {
  ++ended_;
  const bool others_wait = asked_ > ended_;
  before_ = others_wait ? clock_.Now() - began_ : absl::ZeroDuration();
  if (others_wait) next_.notify_all();
}

void Turns::TakeLocked(std::unique_lock<std::mutex>& lock) {
  const uint64_t number = asked_++;
  next_.wait(lock, [&] { return ended_ == number; });
  began_ = clock_.Now();
}

}  // namespace minicpmv
