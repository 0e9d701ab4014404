#include "tools/sdk/cpp/status.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "minicpmv/rpc/v1/error_details.pb.h"

namespace minicpmv::sdk {
namespace {

constexpr char kRetryInfo[] = "type.googleapis.com/google.rpc.RetryInfo";

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  rpc::v1::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& any : details.details()) {
      result.SetPayload(any.type_url(), absl::Cord(any.value()));
    }
  }
  return result;
}

std::optional<absl::Duration> RetryDelayOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryInfo);
  rpc::v1::RetryInfo info;
  if (!payload.has_value() || !info.ParseFromString(std::string(*payload)) ||
      !info.has_retry_delay()) {
    return std::nullopt;
  }
  return std::max(absl::ZeroDuration(), absl::Seconds(info.retry_delay().seconds()) +
                                            absl::Nanoseconds(info.retry_delay().nanos()));
}

}  // namespace minicpmv::sdk
