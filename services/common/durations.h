#pragma once

#include <google/protobuf/duration.pb.h>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace minicpmv {

// INVALID_ARGUMENT: out of the range that google.protobuf.Duration allows, or below zero.
absl::StatusOr<absl::Duration> DurationFrom(const google::protobuf::Duration& duration);
// Cut to that range.
google::protobuf::Duration ToProto(absl::Duration duration);

}  // namespace minicpmv
