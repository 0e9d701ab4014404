#pragma once

#include "absl/time/time.h"
#include "runtime/base/clock.h"

namespace minicpmv {

// Stands still until it is set.
class StandingClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::UnixEpoch();
};

}  // namespace minicpmv
