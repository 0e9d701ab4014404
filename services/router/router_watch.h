#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "minicpmv/common/v1/worker.pb.h"

namespace minicpmv::router {

// What a request is to the queue and to metrics: by the most costly kind of medium in it.
enum class RequestClass { kText, kImage, kVideo };
absl::string_view NameOf(RequestClass request_class);  // "text", "image", "video"

// Sees what the router does, for metrics and the log. On the loop's thread; every method may be
// left out.
class RouterWatch {
 public:
  virtual ~RouterWatch() = default;
  virtual void OnQueueDepth(RequestClass, size_t /*waiting*/) {}
  virtual void OnQueueWait(RequestClass, absl::Duration) {}
  virtual void OnPlaced(absl::Duration /*spent on placing*/) {}
  // "QUEUE_FULL", "DEADLINE_HOPELESS", "QUOTA_EXCEEDED", "ROLE_MISSING".
  virtual void OnRejected(absl::string_view /*reason*/) {}
  // A worker had to be replaced; `ongoing`: after the first token.
  virtual void OnFailover(common::v1::Role, bool /*ongoing*/) {}
  // Why that was, in words that may be a peer's.
  virtual void OnWorkerFailure(absl::string_view /*worker id*/, const absl::Status&,
                               absl::string_view /*request_id*/) {}
  virtual void OnFirstToken(absl::Duration /*since arrival*/) {}
  virtual void OnLaterTokens(int /*tokens*/, absl::Duration /*since the message before*/) {}
};

}  // namespace minicpmv::router
