#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/status.h"
#include "tools/minicpmv/server_access.h"

namespace minicpmv {

// Flags of all that asks a server, before they become a ServerAccess.
struct ServerFlags {
  std::string servers;
  CredentialOptions credentials;
  std::string cache_scope;

  bool given() const { return !servers.empty(); }
  ServerAccess ToAccess() const;
};

// --server and how it is reached. `is_required`: the subcommand does nothing without.
void AddServerFlags(CLI::App& app, ServerFlags& flags, bool is_required);

// Of the subcommand chat: INVALID_ARGUMENT names a flag that concerns a process which computes,
// beside --server; or one that concerns a server, without.
absl::Status CheckChatFlags(const CLI::App& app, const ServerFlags& flags);

}  // namespace minicpmv
