#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/common/credentials.h"
#include "services/common/listen_address.h"

namespace minicpmv {

struct ServerOptions {
  Credentials credentials;
  int64_t max_message_bytes = 4 << 20;  // received at once
  // Open calls of one connection; more wait at the caller's end.
  int max_streams = 1024;
  // For all that gRPC buffers; connections that would go beyond it are refused.
  int64_t buffer_bytes = int64_t{1} << 30;
  bool reflection = false;
};

// One listening port with its services. Health is one of them (grpc.health.v1): "" and "readiness"
// are SERVING while SetReady(true) holds, "liveness" until the end.
class Server {
 public:
  // Answers from now on, and is not ready. The services (generated callback services) live longer
  // than this. INVALID_ARGUMENT: an address that others reach needs credentials that tell
  // strangers. UNAVAILABLE: the port is taken.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ListenAddress& listen,
                                                       const ServerOptions& options,
                                                       const std::vector<grpc::Service*>& services);
  // As Shutdown(0).
  ~Server();

  // "127.0.0.1:40123".
  const std::string& address() const { return address_; }

  // Thread-safe.
  void SetReady(bool ready);

  // Takes no new calls; those that are open have `grace` to end and are cancelled then. Returns
  // when all have ended: every call has been ended by its service. Once. `is_idle` is asked now and
  // then, on another thread: once it says that what is left has no end of its own (streams of
  // workers, watches of health) that is cancelled soon.
  void Shutdown(absl::Duration grace, const std::function<bool()>& is_idle = nullptr);

 private:
  Server() = default;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
  bool is_shut_ = false;
};

}  // namespace minicpmv
