#include "tools/minicpmv/server_flags.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace minicpmv {
namespace {

constexpr char kGroup[] = "Server";

}  // namespace

ServerAccess ServerFlags::ToAccess() const {
  ServerAccess access;
  access.servers = absl::StrSplit(servers, ',');
  access.credentials = credentials;
  access.cache_scope = cache_scope;
  return access;
}

void AddServerFlags(CLI::App& app, ServerFlags& flags, bool is_required) {
  app.add_option("--server", flags.servers, "Routers that answer: HOST:PORT,HOST:PORT")
      ->required(is_required)
      ->type_name("LIST")
      ->group(kGroup);
  app.add_option("--token-file", flags.credentials.token_file, "The cluster token")
      ->type_name("FILE")
      ->group(kGroup);
  app.add_option("--tls-ca", flags.credentials.ca_file, "TLS: who vouches for the server, PEM")
      ->type_name("FILE")
      ->group(kGroup);
  app.add_option("--tls-certificate", flags.credentials.certificate_file, "TLS: our own, PEM")
      ->type_name("FILE")
      ->group(kGroup);
  app.add_option("--tls-key", flags.credentials.key_file, "TLS: of our own certificate, PEM")
      ->type_name("FILE")
      ->group(kGroup);
  app.add_option("--cache-scope", flags.cache_scope,
                 "Whose cached media and prefixes are used (nobody's in particular)")
      ->type_name("NAME")
      ->group(kGroup);
}

absl::Status CheckChatFlags(const CLI::App& app, const ServerFlags& flags) {
  for (const CLI::Option* const option : app.get_options()) {
    if (option->count() == 0) continue;
    const std::string name = option->get_name();
    const bool computes = option->get_group() == "Engine" || name == "--model";
    if (flags.given() && computes) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, ": concerns a process that computes here; with --server the workers do"));
    }
    if (flags.given() && name == "--max-prompt-tokens") {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": with --server it is the router that limits prompts"));
    }
    if (!flags.given() && option->get_group() == kGroup) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": has no meaning without --server"));
    }
  }
  return absl::OkStatus();
}

}  // namespace minicpmv
