#include "services/router/virtual_loop.h"

#include <algorithm>

namespace minicpmv::router {

class VirtualLoop::OneAlarm final : public Alarm {
 public:
  OneAlarm(VirtualLoop& loop, Key key) : loop_(loop), key_(key) {}
  ~OneAlarm() override { loop_.calls_.erase(key_); }

 private:
  VirtualLoop& loop_;
  const Key key_;
};

void VirtualLoop::Post(absl::AnyInvocable<void()> call) {
  calls_.emplace(Key(now_, ++last_), std::move(call));
}

std::unique_ptr<Loop::Alarm> VirtualLoop::At(absl::Time time, absl::AnyInvocable<void()> call) {
  const Key key(std::max(time, now_), ++last_);
  calls_.emplace(key, std::move(call));
  return std::make_unique<OneAlarm>(*this, key);
}

bool VirtualLoop::RunOne(absl::Time end) {
  const auto next = calls_.begin();
  if (next == calls_.end() || next->first.first > end) {
    now_ = std::max(now_, end);
    return false;
  }
  now_ = next->first.first;
  absl::AnyInvocable<void()> call = std::move(next->second);
  calls_.erase(next);
  call();
  return true;
}

void VirtualLoop::RunUntil(absl::Time end) {
  while (RunOne(end)) {
  }
}

}  // namespace minicpmv::router
