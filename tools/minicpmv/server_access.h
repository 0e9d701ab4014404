#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/common/credentials.h"
#include "tools/sdk/cpp/client.h"

namespace minicpmv {

// How a fleet is reached, as the flags say it.
struct ServerAccess {
  std::vector<std::string> servers;  // routers, "host:port"
  CredentialOptions credentials;
  std::string cache_scope;
};

// How processes with these credentials are called.
sdk::ClientOptions ClientOptionsOf(std::vector<std::string> servers,
                                   const Credentials& credentials);

// `patience`: see ClientOptions. INVALID_ARGUMENT names the flag. Errors of Credentials::Load.
absl::StatusOr<std::unique_ptr<sdk::Client>> ConnectTo(
    const ServerAccess& access, absl::Duration patience = sdk::ClientOptions().patience);

}  // namespace minicpmv
