#include "services/common/durations.h"

#include <algorithm>

namespace minicpmv {
namespace {

// Ten thousand years: what the message allows.
constexpr int64_t kMaxSeconds = 315'576'000'000;

}  // namespace

absl::StatusOr<absl::Duration> DurationFrom(const google::protobuf::Duration& duration) {
  if (duration.seconds() < 0 || duration.seconds() > kMaxSeconds || duration.nanos() < 0 ||
      duration.nanos() > 999'999'999) {
    return absl::InvalidArgumentError("a duration is below zero or out of range");
  }
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

google::protobuf::Duration ToProto(absl::Duration duration) {
  const absl::Duration most = absl::Seconds(kMaxSeconds);
  duration = std::clamp(duration, -most, most);
  google::protobuf::Duration proto;
  absl::Duration rest;
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return proto;
}

}  // namespace minicpmv
