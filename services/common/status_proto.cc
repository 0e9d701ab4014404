#include "services/common/status_proto.h"

#include <algorithm>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "minicpmv/rpc/v1/error_details.pb.h"

namespace minicpmv {
namespace {

constexpr absl::string_view kPrefix = "type.googleapis.com/google.rpc.";

std::string UrlOf(absl::string_view message) { return absl::StrCat(kPrefix, message); }

template <typename Message>
absl::Status With(absl::Status status, absl::string_view name, const Message& detail) {
  if (!status.ok()) status.SetPayload(UrlOf(name), absl::Cord(detail.SerializeAsString()));
  return status;
}

template <typename Message>
std::optional<Message> Find(const absl::Status& status, absl::string_view name) {
  const absl::optional<absl::Cord> payload = status.GetPayload(UrlOf(name));
  Message message;
  if (!payload.has_value() || !message.ParseFromString(std::string(*payload))) return std::nullopt;
  return message;
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  rpc::v1::Status details;
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& value) {
    google::protobuf::Any& any = *details.add_details();
    any.set_type_url(std::string(url));
    any.set_value(std::string(value));
  });
  const std::string words(status.message());
  const int code = static_cast<int>(status.code());
  if (details.details().empty()) return {static_cast<grpc::StatusCode>(code), words};
  details.set_code(code);
  details.set_message(words);
  return {static_cast<grpc::StatusCode>(code), words, details.SerializeAsString()};
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  rpc::v1::Status details;
  if (!status.error_details().empty() && details.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& any : details.details()) {
      result.SetPayload(any.type_url(), absl::Cord(any.value()));
    }
  }
  return result;
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration delay) {
  rpc::v1::RetryInfo info;
  const int64_t nanoseconds = absl::ToInt64Nanoseconds(std::max(delay, absl::ZeroDuration()));
  info.mutable_retry_delay()->set_seconds(nanoseconds / 1'000'000'000);
  info.mutable_retry_delay()->set_nanos(static_cast<int32_t>(nanoseconds % 1'000'000'000));
  return With(std::move(status), "RetryInfo", info);
}

absl::Status WithReason(absl::Status status, absl::string_view reason) {
  rpc::v1::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain("minicpmv");
  return With(std::move(status), "ErrorInfo", info);
}

absl::Status WithField(absl::Status status, absl::string_view field) {
  rpc::v1::BadRequest request;
  auto& violation = *request.add_field_violations();
  violation.set_field(std::string(field));
  violation.set_description(std::string(status.message()));
  return With(std::move(status), "BadRequest", request);
}

absl::Status WithQuota(absl::Status status, absl::string_view subject) {
  rpc::v1::QuotaFailure failure;
  auto& violation = *failure.add_violations();
  violation.set_subject(std::string(subject));
  violation.set_description(std::string(status.message()));
  return With(std::move(status), "QuotaFailure", failure);
}

absl::Status WithRequestId(absl::Status status, absl::string_view request_id) {
  rpc::v1::RequestInfo info;
  info.set_request_id(std::string(request_id));
  return With(std::move(status), "RequestInfo", info);
}

std::optional<absl::Duration> RetryAfterOf(const absl::Status& status) {
  const auto info = Find<rpc::v1::RetryInfo>(status, "RetryInfo");
  if (!info || !info->has_retry_delay()) return std::nullopt;
  return absl::Seconds(info->retry_delay().seconds()) +
         absl::Nanoseconds(info->retry_delay().nanos());
}

std::string ReasonOf(const absl::Status& status) {
  const auto info = Find<rpc::v1::ErrorInfo>(status, "ErrorInfo");
  return info ? info->reason() : "";
}

std::string FieldOf(const absl::Status& status) {
  const auto request = Find<rpc::v1::BadRequest>(status, "BadRequest");
  return request && request->field_violations_size() > 0 ? request->field_violations(0).field()
                                                         : "";
}

}  // namespace minicpmv
