#pragma once

#include <optional>

#include "absl/time/time.h"

namespace minicpmv {

// When a process that ended is started again: soon at first, later each time it does not hold.
class RestartPolicy {
 public:
  static constexpr absl::Duration kFirstDelay = absl::Milliseconds(500);
  static constexpr absl::Duration kLongestDelay = absl::Seconds(8);
  // Who was ready for so long is well again.
  static constexpr absl::Duration kHealthy = absl::Seconds(10);

  void Ready(absl::Time now) { ready_at_ = now; }
  // The wait before the next start; doubles from call to call, up to the longest.
  absl::Duration Ended(absl::Time now);

 private:
  std::optional<absl::Time> ready_at_;  // of the process that runs
  absl::Duration next_ = kFirstDelay;
};

}  // namespace minicpmv
