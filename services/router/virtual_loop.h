#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "services/router/loop.h"

namespace minicpmv::router {

// A loop whose time stands still while something is to be done, and then jumps to the next alarm:
// days of a fleet's life pass in seconds, and each time in the same order. For one thread, whose
// every call is "on the loop's thread".
class VirtualLoop final : public Loop {
 public:
  absl::Time Now() const override { return now_; }
  void Post(absl::AnyInvocable<void()> call) override;
  std::unique_ptr<Alarm> At(absl::Time time, absl::AnyInvocable<void()> call) override;

  // The next call, if there is one at or before `end`; otherwise time becomes `end`.
  bool RunOne(absl::Time end);
  // All up to `end`, which is the time then.
  void RunUntil(absl::Time end);
  void RunFor(absl::Duration time) { RunUntil(now_ + time); }

 private:
  using Key = std::pair<absl::Time, uint64_t>;
  class OneAlarm;

  absl::Time now_ = absl::UnixEpoch();
  uint64_t last_ = 0;
  std::map<Key, absl::AnyInvocable<void()>> calls_;
};

}  // namespace minicpmv::router
