#include "tools/minicpmv/restart_policy.h"

#include <algorithm>

namespace minicpmv {

absl::Duration RestartPolicy::Ended(absl::Time now) {
  if (ready_at_.has_value() && now - *ready_at_ >= kHealthy) next_ = kFirstDelay;
  ready_at_.reset();
  const absl::Duration delay = next_;
  next_ = std::min(2 * next_, kLongestDelay);
  return delay;
}

}  // namespace minicpmv
