#include "tools/minicpmv/service_process.h"

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "services/common/process_metrics.h"
#include "tools/minicpmv/output.h"

namespace minicpmv {
namespace {

// Thousands of clients may be connected: each is a descriptor.
void AllowManyDescriptors() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// In a picture of several processes a request goes from top to bottom.
int PlaceOf(absl::string_view role) {
  constexpr absl::string_view kRoles[] = {"gateway", "router",  "serve",
                                          "vision",  "prefill", "decode"};
  return 1 + static_cast<int>(std::find(std::begin(kRoles), std::end(kRoles), role) -
                              std::begin(kRoles));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServiceProcess>> ServiceProcess::Start(
    const ProcessSettings& settings) {
  if (settings.json_log) LogJson(settings.role);
  std::unique_ptr<ServiceProcess> process(new ServiceProcess(settings));
  ServiceProcess& self = *process;
  process->signals_ = std::make_unique<Interrupts>(std::vector<int>{SIGINT, SIGTERM});
  process->signals_->Set([&self] { self.OnSignal(); });
  AllowManyDescriptors();
  ASSIGN_OR_RETURN(process->credentials_, Credentials::Load(settings.credentials));
  absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve(settings.listen);
  if (!listen.ok()) return Blame("--listen", listen.status());
  process->listen_ = std::make_unique<ListenAddress>(*std::move(listen));
  RETURN_IF_ERROR(self.StartTracing());
  const absl::StatusOr<ListenAddress> admin = ListenAddress::Reserve(settings.admin_listen);
  if (!admin.ok()) return Blame("--admin-listen", admin.status());
  ASSIGN_OR_RETURN(
      process->admin_,
      AdminServer::Start(*admin, {[&self] { return self.metrics_.Text(); },
                                  [&self] { return self.is_ready_.load(); }, kVersion}));
  return process;
}

absl::Status ServiceProcess::StartTracing() {
  if (settings_.trace.empty()) return absl::OkStatus();
  TraceFileOptions options;
  options.process = absl::StrCat(settings_.role, " ", listen_->text());
  options.place = PlaceOf(settings_.role);
  absl::StatusOr<std::unique_ptr<Tracing>> tracing = Tracing::To(settings_.trace, options);
  if (!tracing.ok()) return Blame("--trace", tracing.status());
  tracing_ = *std::move(tracing);
  return absl::OkStatus();
}

void ServiceProcess::OnStop(std::function<void()> stop, std::function<void()> hurry) {
  const std::lock_guard<std::mutex> lock(mutex_);
  stop_ = std::move(stop);
  hurry_ = std::move(hurry);
  if (is_stopping_ && stop_) stop_();
}

void ServiceProcess::OnSignal() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!is_stopping_) {
    is_stopping_ = true;
    LogInfo(absl::StrCat(settings_.role, " stops; once more to stop at once"));
    if (stop_) stop_();
  } else if (hurry_) {
    hurry_();
  }
}

absl::Status ServiceProcess::AnnounceReady(absl::string_view address) {
  SetReady(true);
  return Announce(settings_.role, address);
}

absl::Status ServiceProcess::Announce(absl::string_view role, absl::string_view address) {
  return WriteOutput(
      absl::StrCat("ready ", role, " ", address, " admin=", admin_->address(), "\n"));
}

}  // namespace minicpmv
