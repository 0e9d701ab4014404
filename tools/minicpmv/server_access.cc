#include "tools/minicpmv/server_access.h"

#include <utility>

#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {

sdk::ClientOptions ClientOptionsOf(std::vector<std::string> servers,
                                   const Credentials& credentials) {
  sdk::ClientOptions options;
  options.servers = std::move(servers);
  options.token = credentials.token();
  if (!credentials.ca().empty() || !credentials.certificate().empty()) {
    sdk::TlsOptions& tls = options.tls.emplace();
    tls.roots = credentials.ca();
    tls.certificate = credentials.certificate();
    tls.key = credentials.key();
  }
  return options;
}

absl::StatusOr<std::unique_ptr<sdk::Client>> ConnectTo(const ServerAccess& access,
                                                       absl::Duration patience) {
  for (const std::string& address : access.servers) {
    if (const absl::Status right = CheckAddress(address); !right.ok()) {
      return Blame("--server", right);
    }
  }
  ASSIGN_OR_RETURN(const Credentials credentials, Credentials::Load(access.credentials));
  sdk::ClientOptions options = ClientOptionsOf(access.servers, credentials);
  options.patience = patience;
  options.cache_scope = access.cache_scope;
  return sdk::Client::Create(std::move(options));
}

}  // namespace minicpmv
