#include "runtime/link/link_observer.h"

namespace minicpmv {

LinkFailure FailureOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kAborted:
      return LinkFailure::kAbort;
    case absl::StatusCode::kDataLoss:
      return LinkFailure::kChecksum;
    case absl::StatusCode::kUnavailable:
      return LinkFailure::kPeerGone;
    default:
      return LinkFailure::kRefused;
  }
}

}  // namespace minicpmv
