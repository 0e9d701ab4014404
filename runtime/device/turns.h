#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "absl/time/time.h"
#include "runtime/base/clock.h"

namespace minicpmv {

// Who of those that share a device's threads may use them: one at a time, in the order in which
// they asked. Thread-safe; Yield and End are for whoever has the turn.
class Turns {
 public:
  // The clock outlives it.
  explicit Turns(const Clock& clock) : clock_(clock) {}

  // Returns when it is the caller's turn.
  void Take();
  // Where others wait they go first, and this returns when it is the caller's turn again. But
  // whoever had to wait for a long turn has a third of its length before it gives way: work that
  // is offered in small pieces would come to nothing beside work in large ones.
  void Yield();
  void End();

 private:
  void EndLocked();
  void TakeLocked(std::unique_lock<std::mutex>& lock);

  const Clock& clock_;
  std::mutex mutex_;
  std::condition_variable next_;
  uint64_t asked_ = 0;  // guarded by mutex_, like all below
  uint64_t ended_ = 0;  // whose number this is has the turn
  absl::Time began_;
  absl::Duration before_;  // how long the turn took that this one waited for
};

}  // namespace minicpmv
