#include "tools/minicpmv/serve.h"

#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "services/common/process_metrics.h"
#include "services/gateway/gateway.h"
#include "services/router/router_model.h"
#include "services/router/router_server.h"
#include "tools/minicpmv/model_folder.h"
#include "tools/minicpmv/server_access.h"
#include "tools/minicpmv/service_process.h"
#include "tools/minicpmv/worker_process.h"

namespace minicpmv {
namespace {

// The first signal to stop. A second one does not wait for what runs.
class StopSignal {
 public:
  explicit StopSignal(ServiceProcess& process) : process_(process) {
    process.OnStop(
        [this] {
          const std::lock_guard<std::mutex> lock(mutex_);
          has_come_ = true;
          changed_.notify_all();
        },
        [] { std::_Exit(EXIT_FAILURE); });
  }
  ~StopSignal() { process_.OnStop(nullptr, nullptr); }

  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return has_come_; });
    process_.SetReady(false);
  }

 private:
  ServiceProcess& process_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool has_come_ = false;  // guarded by mutex_
};

absl::StatusOr<std::unique_ptr<router::RouterModel>> LoadModel(const RouterSettings& settings) {
  ASSIGN_OR_RETURN(const std::string folder, ResolveModelFolder(settings.folder));
  return router::RouterModel::Load(folder, settings.model_name);
}

absl::StatusOr<router::RouterServerOptions> OptionsOf(const ServiceProcess& process,
                                                      const ProcessSettings& settings,
                                                      const RouterSettings& router) {
  router::RouterServerOptions options;
  options.router.queue_limit = static_cast<size_t>(router.queue_limit);
  options.router.tenant_limit = static_cast<size_t>(router.tenant_limit);
  ASSIGN_OR_RETURN(options.router.tenants, TenantsOf(router));
  options.router.longest_wait = router.longest_wait;
  options.router.settle = router.settle;
  options.router.stall_after = router.stall_after;
  options.router.failovers = static_cast<int>(router.failovers);
  options.media.memory = router.media_memory_bytes;
  options.media.files = router.media_file_bytes;
  options.media.folder = router.media_folder;
  options.credentials = process.credentials();
  options.reflection = settings.reflection;
  return options;
}

absl::StatusOr<std::unique_ptr<gateway::Gateway>> StartGateway(const ListenAddress& listen,
                                                               const GatewaySettings& settings,
                                                               ServiceProcess& process) {
  gateway::GatewayOptions options;
  options.routers = ClientOptionsOf(settings.routers, process.credentials());
  if (!settings.api_keys_file.empty()) {
    ASSIGN_OR_RETURN(options.keys, gateway::ApiKeys::Load(settings.api_keys_file));
  }
  ASSIGN_OR_RETURN(options.remote_hosts, gateway::RemoteHosts::Parse(settings.remote_hosts));
  options.fetch.patience = settings.fetch_patience;
  options.version = kVersion;
  options.body_bytes = settings.body_bytes;
  options.requests = static_cast<int>(settings.requests);
  options.disk_bytes = settings.disk_bytes;
  options.disk_folder = settings.disk_folder;
  options.file_life = settings.file_life;
  return gateway::Gateway::Start(listen, options, process.metrics());
}

}  // namespace

absl::Status ServeWorker(const ServeWorkerOptions& options) {
  RETURN_IF_ERROR(CheckSettings(options));
  ASSIGN_OR_RETURN(const std::unique_ptr<ServiceProcess> process,
                   ServiceProcess::Start(options.process));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<WorkerProcess> made,
      WorkerProcess::Start(process->listen(), options.process, options.worker,
                           process->credentials(), process->admin_address(), process->metrics()));
  Worker& worker = made->worker();
  const auto entry = worker.state_changes().Add(
      [&] { process->SetReady(worker.state() == control::v1::WORKER_STATE_READY); });
  absl::Status status = made->Join(options.worker.routers);
  if (status.ok()) status = process->AnnounceReady(made->address());
  if (!status.ok()) worker.Drain(absl::ZeroDuration());
  process->OnStop([&] { worker.Drain(); }, [&] { worker.Drain(absl::ZeroDuration()); });
  worker.WaitUntilDrained();
  process->OnStop(nullptr, nullptr);
  return status;
}

absl::Status ServeRouter(const ServeRouterOptions& options) {
  RETURN_IF_ERROR(CheckSettings(options));
  ASSIGN_OR_RETURN(const std::unique_ptr<ServiceProcess> process,
                   ServiceProcess::Start(options.process));
  ASSIGN_OR_RETURN(const std::unique_ptr<router::RouterModel> model, LoadModel(options.router));
  ASSIGN_OR_RETURN(const router::RouterServerOptions router_options,
                   OptionsOf(*process, options.process, options.router));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<router::RouterServer> server,
      router::RouterServer::Start(process->listen(), router_options, *model, process->metrics()));
  StopSignal stop(*process);
  RETURN_IF_ERROR(process->AnnounceReady(server->address()));
  stop.Wait();
  server->Shutdown(options.process.drain_grace);
  return absl::OkStatus();
}

absl::Status ServeGateway(const ServeGatewayOptions& options) {
  RETURN_IF_ERROR(CheckSettings(options));
  ASSIGN_OR_RETURN(const std::unique_ptr<ServiceProcess> process,
                   ServiceProcess::Start(options.process));
  ASSIGN_OR_RETURN(const std::unique_ptr<gateway::Gateway> gateway,
                   StartGateway(process->listen(), options.gateway, *process));
  StopSignal stop(*process);
  RETURN_IF_ERROR(process->AnnounceReady(gateway->address()));
  stop.Wait();
  gateway->Shutdown(options.process.drain_grace);
  return absl::OkStatus();
}

absl::Status ServeAll(const ServeAllOptions& options) {
  RETURN_IF_ERROR(CheckSettings(options));
  ASSIGN_OR_RETURN(const std::unique_ptr<ServiceProcess> process,
                   ServiceProcess::Start(options.process));
  ASSIGN_OR_RETURN(const std::unique_ptr<router::RouterModel> model, LoadModel(options.router));
  // The worker is reached from this process only.
  ASSIGN_OR_RETURN(const ListenAddress inner, ListenAddress::Reserve("127.0.0.1:0"));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<WorkerProcess> made,
      WorkerProcess::Start(inner, options.process, options.worker, process->credentials(),
                           process->admin_address(), process->metrics()));
  ASSIGN_OR_RETURN(const router::RouterServerOptions router_options,
                   OptionsOf(*process, options.process, options.router));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<router::RouterServer> server,
      router::RouterServer::Start(process->listen(), router_options, *model, process->metrics()));
  const std::string router = DialableOf(process->listen().text());
  std::unique_ptr<gateway::Gateway> gateway;
  if (!options.gateway.listen.empty()) {
    GatewaySettings settings = options.gateway;
    settings.routers = {router};
    ASSIGN_OR_RETURN(const ListenAddress listen, ListenAddress::Reserve(settings.listen));
    ASSIGN_OR_RETURN(gateway, StartGateway(listen, settings, *process));
  }
  StopSignal stop(*process);
  absl::Status status = made->Join({router});
  if (status.ok()) status = process->AnnounceReady(server->address());
  if (status.ok() && gateway != nullptr) status = process->Announce("gateway", gateway->address());
  if (status.ok()) stop.Wait();
  // Its requests are the router's, too.
  if (gateway != nullptr) {
    gateway->Shutdown(status.ok() ? options.process.drain_grace : absl::ZeroDuration());
  }
  // Replies need the worker until they have ended.
  server->Shutdown(status.ok() ? options.process.drain_grace : absl::ZeroDuration());
  made->worker().Drain(absl::ZeroDuration());
  made->worker().WaitUntilDrained();
  return status;
}

}  // namespace minicpmv
