#include "tools/sdk/cpp/servers.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace minicpmv::sdk {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;

// A server that is gone is noticed and found again within seconds; one that froze, or whose
// machine went away without a word, is noticed by pings that stay unanswered.
grpc::ChannelArguments ChannelSettings(const ClientOptions& options) {
  grpc::ChannelArguments settings;
  settings.SetMaxReceiveMessageSize(kMaxMessageBytes);
  settings.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  settings.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 3000);  // until a connection stands
  settings.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  settings.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  settings.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  settings.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // as many as need be
  // Nobody but the caller decides where requests go and when they are repeated.
  settings.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  settings.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  settings.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  if (options.tls && !options.tls->name.empty()) {
    settings.SetSslTargetNameOverride(options.tls->name);
  }
  return settings;
}

std::shared_ptr<grpc::ChannelCredentials> CredentialsOf(const ClientOptions& options) {
  if (!options.tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = options.tls->roots;
  ssl.pem_cert_chain = options.tls->certificate;
  ssl.pem_private_key = options.tls->key;
  return grpc::SslCredentials(ssl);
}

}  // namespace

Servers::Servers(ClientOptions options) : options_(std::move(options)) {
  const grpc::ChannelArguments settings = ChannelSettings(options_);
  const std::shared_ptr<grpc::ChannelCredentials> credentials = CredentialsOf(options_);
  for (const std::string& address : options_.servers) {
    servers_.push_back({address, chat::v1::ChatService::NewStub(
                                     grpc::CreateCustomChannel(address, credentials, settings))});
  }
}

void Servers::Introduce(grpc::ClientContext& context, const std::string& cache_scope) const {
  if (!options_.token.empty()) {
    context.AddMetadata("authorization", absl::StrCat("Bearer ", options_.token));
  }
  if (!cache_scope.empty()) context.AddMetadata("minicpmv-cache-scope", cache_scope);
}

void Servers::Leave(const Server& failed) {
  size_t place = in_use_;
  if (&servers_[place % servers_.size()] == &failed) {
    in_use_.compare_exchange_strong(place, place + 1);
  }
}

}  // namespace minicpmv::sdk
