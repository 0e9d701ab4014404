#include "services/common/server.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <limits>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "services/common/grpc_log.h"

namespace minicpmv {
namespace {

constexpr int kMetadataBytes = 16 << 10;
// Clients ping every 20 s; what comes more often than this is refused.
constexpr int kShortestPingMs = 10'000;
constexpr int kKeepaliveMs = 20'000, kKeepaliveTimeoutMs = 20'000;
// Who connects and says nothing, and who has no call open for long, is let go.
constexpr int kHandshakeMs = 10'000;
constexpr int kIdleMs = 600'000;
constexpr absl::Duration kMostGrace = absl::Hours(24);
constexpr std::chrono::milliseconds kGlance{20}, kFarewell{100};

// Linking the reflection library adds it to every server.
class NoReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    const std::string name = grpc::reflection::ProtoServerReflectionPlugin().name();
    std::erase_if(*plugins, [&](const auto& plugin) { return plugin->name() == name; });
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ListenAddress& listen,
                                                      const ServerOptions& options,
                                                      const std::vector<grpc::Service*>& services) {
  if (!listen.is_loopback() && !options.credentials.TellStrangers()) {
    return absl::InvalidArgumentError(
        absl::StrCat(listen.text(),
                     " can be reached from other machines: that needs a cluster token, or "
                     "certificate, key and CA"));
  }
  SendGrpcLogToOurs();
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(listen.text(), options.credentials.ForServer(), &port);
  builder.SetMaxReceiveMessageSize(static_cast<int>(
      std::min<int64_t>(options.max_message_bytes, std::numeric_limits<int>::max())));
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kShortestPingMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMs);
  // Two processes on one named port would share its calls by chance.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, listen.was_picked() ? 1 : 0);
  grpc::ResourceQuota quota("server");
  quota.Resize(static_cast<size_t>(options.buffer_bytes));
  builder.SetResourceQuota(quota);
  if (!options.reflection) builder.SetOption(std::make_unique<NoReflection>());
  for (grpc::Service* const service : services) builder.RegisterService(service);

  std::unique_ptr<Server> server(new Server);
  server->address_ = listen.text();
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", listen.text()));
  }
  grpc::HealthCheckServiceInterface* const health = server->server_->GetHealthCheckService();
  CHECK(health != nullptr);
  health->SetServingStatus("liveness", true);
  server->SetReady(false);
  return server;
}

Server::~Server() {
  if (!is_shut_) Shutdown(absl::ZeroDuration());
}

void Server::SetReady(bool ready) {
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  health->SetServingStatus("", ready);
  health->SetServingStatus("readiness", ready);
}

void Server::Shutdown(absl::Duration grace, const std::function<bool()>& is_idle) {
  CHECK(!is_shut_);
  is_shut_ = true;
  if (server_ == nullptr) return;
  const auto end = std::chrono::system_clock::now() +
                   absl::ToChronoMilliseconds(std::clamp(grace, absl::ZeroDuration(), kMostGrace));
  std::promise<void> done;
  std::future<void> is_done = done.get_future();
  std::thread watching;
  if (is_idle) {
    watching = std::thread([&] {
      while (is_done.wait_for(kGlance) == std::future_status::timeout) {
        if (!is_idle()) continue;
        // For what is on its way to clients.
        if (is_done.wait_for(kFarewell) == std::future_status::ready) return;
        grpc_server_cancel_all_calls(server_->c_server());
      }
    });
  }
  server_->Shutdown(end);
  server_->Wait();
  done.set_value();
  if (watching.joinable()) watching.join();
}

}  // namespace minicpmv
