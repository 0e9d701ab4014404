#include "tools/sdk/cpp/retries.h"

#include <algorithm>

#include "tools/sdk/cpp/status.h"

namespace minicpmv::sdk {

void Retries::NoteProgress(absl::Time now) {
  give_up_ = now + options_.patience;
  pause_ = options_.pause;
  failures_ = 0;
}

Retries::Next Retries::After(const absl::Status& failure, absl::Time now) {
  const std::optional<absl::Duration> asked = RetryDelayOf(failure);
  Next next;
  switch (failure.code()) {
    case absl::StatusCode::kResourceExhausted:  // whoever is full is asked again
      if (!asked) return next;
      break;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:  // not by us: a server that shuts down
      next.leave = true;                // whoever is gone is left
      break;
    default:
      return next;
  }
  absl::Time at = now + asked.value_or(absl::ZeroDuration());
  ++failures_;
  if (next.leave && failures_ % options_.servers.size() == 0) {
    // Many clients lose a server at once: they should not all come back at once.
    at = std::max(at, now + pause_ * absl::Uniform(random_, 0.5, 1.0));
    pause_ = std::min(2 * pause_, options_.longest_pause);
  }
  if (at <= give_up_) next.at = at;
  return next;
}

}  // namespace minicpmv::sdk
