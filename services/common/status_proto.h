#pragma once

#include <grpcpp/support/status.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace minicpmv {

// The one place where absl::Status and grpc::Status meet. Codes are equal by number; the details of
// google.rpc (RetryInfo, ErrorInfo, BadRequest, ...) are payloads of an absl::Status under their
// type URL and travel in the trailer "grpc-status-details-bin".
grpc::Status ToGrpc(const absl::Status& status);
// A trailer that cannot be read is left out: the code and the words still count.
absl::Status FromGrpc(const grpc::Status& status);

// The same status with a detail more. An OK status stays as it is.
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);
// ErrorInfo with the domain "minicpmv": "PREEMPTED", "DRAINING", "QUEUE_FULL", ...
absl::Status WithReason(absl::Status status, absl::string_view reason);
// BadRequest: the path of the field that is wrong, as in "conversation.messages[2].parts".
absl::Status WithField(absl::Status status, absl::string_view field);
// QuotaFailure: who has used up what the status's words say.
absl::Status WithQuota(absl::Status status, absl::string_view subject);
absl::Status WithRequestId(absl::Status status, absl::string_view request_id);

// What those details say; nothing where there are none or they cannot be read.
std::optional<absl::Duration> RetryAfterOf(const absl::Status& status);
std::string ReasonOf(const absl::Status& status);
std::string FieldOf(const absl::Status& status);

}  // namespace minicpmv
