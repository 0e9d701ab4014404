#include "tools/minicpmv/server_access.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "runtime/base/blame.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

// Files that Credentials::Load has found to be right.
constexpr size_t kMaxFileBytes = 1 << 20;

absl::StatusOr<std::string> Read(const std::string& path) {
  if (path.empty()) return std::string();
  return ReadFile(path, kMaxFileBytes);
}

}  // namespace

absl::StatusOr<std::unique_ptr<sdk::Client>> ConnectTo(const ServerAccess& access) {
  for (const std::string& address : access.servers) {
    if (const absl::Status right = CheckAddress(address); !right.ok()) {
      return Blame("--server", right);
    }
  }
  RETURN_IF_ERROR(Credentials::Load(access.credentials).status());
  sdk::ClientOptions options;
  options.servers = access.servers;
  options.cache_scope = access.cache_scope;
  ASSIGN_OR_RETURN(const std::string token, Read(access.credentials.token_file));
  options.token = std::string(absl::StripAsciiWhitespace(token));
  if (!access.credentials.ca_file.empty() || !access.credentials.certificate_file.empty()) {
    sdk::TlsOptions& tls = options.tls.emplace();
    ASSIGN_OR_RETURN(tls.roots, Read(access.credentials.ca_file));
    ASSIGN_OR_RETURN(tls.certificate, Read(access.credentials.certificate_file));
    ASSIGN_OR_RETURN(tls.key, Read(access.credentials.key_file));
  }
  return sdk::Client::Create(std::move(options));
}

}  // namespace minicpmv
