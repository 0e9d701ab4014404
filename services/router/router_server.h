#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/common/credentials.h"
#include "services/common/listen_address.h"
#include "services/common/metrics.h"
#include "services/common/server.h"
#include "services/router/chat_service.h"
#include "services/router/fleet_service.h"
#include "services/router/grpc_workers.h"
#include "services/router/media_bytes.h"
#include "services/router/router.h"
#include "services/router/router_metrics.h"
#include "services/router/router_model.h"
#include "services/router/thread_loop.h"

namespace minicpmv::router {

struct RouterServerOptions {
  RouterOptions router;
  MediaBytes::Limits media;
  // For the own port, and for calls to workers.
  Credentials credentials;
  bool reflection = false;
};

// A router that listens: ChatService for everybody, FleetService for workers.
class RouterServer {
 public:
  // Answers, and is ready, from now on. Model and metrics outlive it. Errors of Server::Start.
  static absl::StatusOr<std::unique_ptr<RouterServer>> Start(const ListenAddress& listen,
                                                             const RouterServerOptions& options,
                                                             const RouterModel& model,
                                                             Metrics& metrics);
  // As Shutdown(0).
  ~RouterServer();

  // "127.0.0.1:40123".
  const std::string& address() const { return server_->address(); }

  // Not ready, and no new calls, at once; replies that are being made have `grace` to end and are
  // cancelled then. Returns when all have ended. Once.
  void Shutdown(absl::Duration grace);

 private:
  RouterServer(const RouterServerOptions& options, const RouterModel& model, Metrics& metrics);

  ThreadLoop loop_;
  MediaBytes media_;
  RouterMetrics metrics_;
  const std::string incarnation_;  // 16 bytes
  std::unique_ptr<GrpcWorkers> workers_;
  std::unique_ptr<Router> router_;  // the loop's
  std::unique_ptr<ChatService> chat_;
  std::unique_ptr<FleetService> fleet_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Listeners<>::Entry> on_text_;
  bool is_shut_ = false;
};

}  // namespace minicpmv::router
