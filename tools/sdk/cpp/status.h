#pragma once

#include <grpcpp/support/status.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace minicpmv::sdk {

// Code and words; the details of google.rpc become payloads under their type URLs.
absl::Status FromGrpc(const grpc::Status& status);

// What the status's RetryInfo asks for; nothing where there is none.
std::optional<absl::Duration> RetryDelayOf(const absl::Status& status);

}  // namespace minicpmv::sdk
