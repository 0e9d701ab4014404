#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "minicpmv/common/v1/worker.pb.h"
#include "runtime/engine/local_model.h"
#include "services/common/credentials.h"
#include "services/router/tenants.h"

namespace minicpmv {

// What all processes that listen are told.
struct ProcessSettings {
  std::string role;  // the subcommand's name
  std::string listen, admin_listen;
  CredentialOptions credentials;
  bool reflection = false;
  bool json_log = false;
  std::string trace;  // the file for spans; "": none
  // How long what runs may take to end once the process is to stop.
  absl::Duration drain_grace = absl::Seconds(30);
};

struct WorkerSettings {
  std::vector<common::v1::Role> roles;
  LocalModelOptions model;  // its parts are chosen by the roles
  std::string model_name;   // "": the folder's
  std::string id;           // "": derived from the address
  std::string advertise;    // where others reach this worker; "": where it listens
  std::vector<std::string> routers;
  int64_t media_bytes = int64_t{512} << 20;
  int64_t rows_cache_bytes = int64_t{256} << 20;
};

struct RouterSettings {
  std::string folder, model_name;
  // One tenant alone does not fill the queue.
  int64_t queue_limit = 256, tenant_limit = 224;
  std::string tenants_file;  // "": all have the same terms, without limits
  absl::Duration longest_wait = absl::InfiniteDuration();
  absl::Duration settle = absl::Seconds(10);
  std::optional<absl::Duration> stall_after;
  int64_t failovers = 16;
  int64_t media_memory_bytes = int64_t{512} << 20;
  int64_t media_file_bytes = int64_t{4} << 30;
  std::string media_folder = "/tmp";
};

// OpenAI's HTTP.
struct GatewaySettings {
  std::string listen;                // "": none
  std::vector<std::string> routers;  // that it asks
  std::string api_keys_file;         // "": whoever can connect may ask
  int64_t body_bytes = int64_t{64} << 20;
  int64_t requests = 1024;
  int64_t disk_bytes = int64_t{4} << 30;  // of bodies and of files that clients keep
  std::string disk_folder = "/tmp";
  absl::Duration file_life = absl::Hours(1);
  std::vector<std::string> remote_hosts;  // that pictures are fetched from
  absl::Duration fetch_patience = absl::Seconds(20);
};

// minicpmv vision, prefill, decode and worker.
struct ServeWorkerOptions {
  ProcessSettings process;
  WorkerSettings worker;
};

// minicpmv router.
struct ServeRouterOptions {
  ProcessSettings process;
  RouterSettings router;
};

// minicpmv gateway.
struct ServeGatewayOptions {
  ProcessSettings process;
  GatewaySettings gateway;  // listens where the process does
};

// minicpmv serve: a router, and a worker with all roles that it alone knows.
struct ServeAllOptions {
  ProcessSettings process;  // listen: the router's
  RouterSettings router;
  WorkerSettings worker;    // its roles, routers and addresses are chosen here
  GatewaySettings gateway;  // asks this process's router
};

// What can be seen before anything is loaded: INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE name the
// flag.
absl::Status CheckSettings(const ServeWorkerOptions& options);
absl::Status CheckSettings(const ServeRouterOptions& options);
absl::Status CheckSettings(const ServeGatewayOptions& options);
absl::Status CheckSettings(const ServeAllOptions& options);

// What the file says. Errors of ReadTenants, with the flag's name.
absl::StatusOr<router::TenantBook> TenantsOf(const RouterSettings& settings);

}  // namespace minicpmv
