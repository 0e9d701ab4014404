#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/link/link.h"

namespace minicpmv {

// Why a parcel failed, for counting.
enum class LinkFailure : uint8_t {
  kTimeout,   // its travel took longer than the link allows
  kAbort,     // the landing or its process is no more
  kChecksum,  // damaged on the way
  kPeerGone,  // the link broke or did not come up
  kEpoch,     // it came by an earlier life of the link
  kRefused,   // the landing has no such place
};

// By the status that a landing or an ended link gave. Timeouts, checksums and epochs are seen where
// they happen.
LinkFailure FailureOf(const absl::Status& status);

// Told how parcels fare, by links of any kind on any of their threads; must not block.
class LinkObserver {
 public:
  virtual ~LinkObserver() = default;

  // A parcel is in its place, `taken` after it began to travel. `link`: Link::kind().
  virtual void OnLanded(absl::string_view /*link*/, const ParcelLabel& /*label*/,
                        absl::Duration /*taken*/) {}
  // A parcel ended otherwise. Not told of those that Link::Drop took back.
  virtual void OnFailed(LinkFailure /*reason*/) {}
  // A link came to life again.
  virtual void OnRebuilt() {}
  // Strips have changed hands: so many more (or fewer) hold a parcel, or are free.
  virtual void OnStrips(int64_t /*held*/, int64_t /*free*/) {}
};

}  // namespace minicpmv
