#include "services/router/router_server.h"

#include <utility>

#include "runtime/base/status_macros.h"
#include "services/common/incarnation.h"

namespace minicpmv::router {

RouterServer::RouterServer(const RouterServerOptions& options, const RouterModel& model,
                           Metrics& metrics)
    : media_(options.media), metrics_(metrics), incarnation_(BytesOf(DrawIncarnation())) {
  workers_ = std::make_unique<GrpcWorkers>(loop_, options.credentials, incarnation_, media_);
  loop_.Run([&] {
    router_ = std::make_unique<Router>(options.router, model, *workers_, loop_, metrics_);
    fleet_ = std::make_unique<FleetService>(router_->fleet(), loop_, incarnation_);
  });
  chat_ = std::make_unique<ChatService>(*router_, loop_, media_, metrics_);
  on_text_ = metrics.before_each_text().Add(
      [this] { loop_.Run([this] { metrics_.OnFleet(router_->fleet().List({})); }); });
}

absl::StatusOr<std::unique_ptr<RouterServer>> RouterServer::Start(
    const ListenAddress& listen, const RouterServerOptions& options, const RouterModel& model,
    Metrics& metrics) {
  std::unique_ptr<RouterServer> router(new RouterServer(options, model, metrics));
  ServerOptions server;
  server.credentials = options.credentials;
  server.reflection = options.reflection;
  ASSIGN_OR_RETURN(router->server_,
                   Server::Start(listen, server, {router->chat_.get(), router->fleet_.get()}));
  router->server_->SetReady(true);
  return router;
}

RouterServer::~RouterServer() {
  if (!is_shut_) Shutdown(absl::ZeroDuration());
  on_text_ = nullptr;
  loop_.Run([this] { router_ = nullptr; });
  // Nobody tells the loop anything any more once this has returned.
  workers_ = nullptr;
}

void RouterServer::Shutdown(absl::Duration grace) {
  is_shut_ = true;
  if (server_ == nullptr) return;
  server_->SetReady(false);
  // Workers' streams stay open until then: replies need them.
  server_->Shutdown(grace, [this] {
    bool is_idle = false;
    loop_.Run([&] { is_idle = router_->requests() == 0; });
    return is_idle;
  });
}

}  // namespace minicpmv::router
