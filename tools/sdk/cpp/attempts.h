#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tools/sdk/cpp/client.h"
#include "tools/sdk/cpp/retries.h"
#include "tools/sdk/cpp/servers.h"

namespace minicpmv::sdk {

// The attempts of one call: when there is another, at which server, and when there is none. For
// one thread, but Cancel. Measures by the monotonic clock.
class Attempts {
 public:
  Attempts(Servers& servers, const CallOptions& options);

  // Where the present attempt goes.
  Servers::Server& server() { return *server_; }
  // For the present attempt's next RPC: with token, scope and deadline, and reached by Cancel.
  std::shared_ptr<grpc::ClientContext> NewContext();

  // Waits until it is time for another attempt, or returns the error with which the call ends.
  absl::Status AwaitNext(const absl::Status& failure);
  // Patience starts anew.
  void NoteProgress();

  // No more attempts; the present one is cancelled.
  void Cancel();

 private:
  Servers& servers_;
  Servers::Server* server_;
  const absl::Time deadline_;
  const std::string traceparent_, tracestate_;
  Retries retries_;

  std::mutex mutex_;
  std::condition_variable cancel_;
  bool is_cancelled_ = false;                     // guarded by mutex_
  std::shared_ptr<grpc::ClientContext> context_;  // guarded by mutex_
};

}  // namespace minicpmv::sdk
