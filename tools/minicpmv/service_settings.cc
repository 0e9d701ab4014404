#include "tools/minicpmv/service_settings.h"

#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "services/common/listen_address.h"
#include "services/gateway/api_keys.h"
#include "services/gateway/remote_hosts.h"
#include "tools/minicpmv/tenants_file.h"

namespace minicpmv {
namespace {

// `speaks_http`: where it listens API keys tell strangers, and not the credentials.
absl::Status CheckProcess(const ProcessSettings& process, bool speaks_http = false) {
  ASSIGN_OR_RETURN(const Credentials credentials, Credentials::Load(process.credentials));
  const absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve(process.listen);
  if (!listen.ok()) return Blame("--listen", listen.status());
  const absl::StatusOr<ListenAddress> admin = ListenAddress::Reserve(process.admin_listen);
  if (!admin.ok()) return Blame("--admin-listen", admin.status());
  if (!speaks_http && !listen->is_loopback() && !credentials.TellStrangers()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--listen: ", process.listen,
                     " can be reached from other machines: that needs --token-file, or "
                     "--tls-certificate, --tls-key and --tls-ca"));
  }
  return absl::OkStatus();
}

absl::Status CheckGateway(const GatewaySettings& gateway, absl::string_view listen_flag) {
  if (!gateway.api_keys_file.empty()) {
    const absl::Status status = gateway::ApiKeys::Load(gateway.api_keys_file).status();
    if (!status.ok()) return Blame("--api-keys-file", status);
  }
  const absl::Status hosts = gateway::RemoteHosts::Parse(gateway.remote_hosts).status();
  if (!hosts.ok()) return Blame("--allow-remote-media", hosts);
  const absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve(gateway.listen);
  if (!listen.ok()) return Blame(listen_flag, listen.status());
  if (!listen->is_loopback() && gateway.api_keys_file.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(listen_flag, ": ", gateway.listen,
                     " can be reached from other machines: that needs --api-keys-file"));
  }
  return absl::OkStatus();
}

absl::Status CheckWorker(const ProcessSettings& process, const WorkerSettings& worker) {
  for (const std::string& router : worker.routers) {
    if (const absl::Status status = CheckAddress(router); !status.ok()) {
      return Blame("--router", status);
    }
  }
  if (!worker.advertise.empty()) {
    const absl::Status status = CheckAddress(worker.advertise);
    return status.ok() ? status : Blame("--advertise", status);
  }
  ASSIGN_OR_RETURN(const ListenAddress listen, ListenAddress::Reserve(process.listen));
  if (listen.is_wildcard()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--advertise: others cannot reach ", process.listen, "; say by which address they do"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSettings(const ServeWorkerOptions& options) {
  RETURN_IF_ERROR(CheckProcess(options.process));
  return CheckWorker(options.process, options.worker);
}

absl::Status CheckSettings(const ServeRouterOptions& options) {
  RETURN_IF_ERROR(CheckProcess(options.process));
  return TenantsOf(options.router).status();
}

absl::Status CheckSettings(const ServeGatewayOptions& options) {
  RETURN_IF_ERROR(CheckProcess(options.process, /*speaks_http=*/true));
  for (const std::string& router : options.gateway.routers) {
    if (const absl::Status status = CheckAddress(router); !status.ok()) {
      return Blame("--router", status);
    }
  }
  return CheckGateway(options.gateway, "--listen");
}

absl::Status CheckSettings(const ServeAllOptions& options) {
  RETURN_IF_ERROR(CheckProcess(options.process));
  RETURN_IF_ERROR(TenantsOf(options.router).status());
  return options.gateway.listen.empty() ? absl::OkStatus()
                                        : CheckGateway(options.gateway, "--http");
}

absl::StatusOr<router::TenantBook> TenantsOf(const RouterSettings& settings) {
  if (settings.tenants_file.empty()) return router::TenantBook();
  absl::StatusOr<router::TenantBook> book = ReadTenants(settings.tenants_file);
  if (!book.ok()) return Blame("--tenants", book.status());
  return book;
}

}  // namespace minicpmv
