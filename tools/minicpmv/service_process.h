#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/tracing.h"
#include "services/common/admin_server.h"
#include "services/common/credentials.h"
#include "services/common/listen_address.h"
#include "services/common/metrics.h"
#include "tools/minicpmv/interrupts.h"
#include "tools/minicpmv/service_settings.h"

namespace minicpmv {

// What every process that listens has around its services: signals, log and trace, metrics, the
// admin port, the address that it will answer on.
class ServiceProcess {
 public:
  // Made before any thread of the process. INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE name the flag.
  static absl::StatusOr<std::unique_ptr<ServiceProcess>> Start(const ProcessSettings& settings);

  const ListenAddress& listen() const { return *listen_; }
  const Credentials& credentials() const { return credentials_; }
  const std::string& admin_address() const { return admin_->address(); }
  Metrics& metrics() { return metrics_; }

  // What SIGTERM and Ctrl-C do from now on: the first is `stop`, each after it `hurry`. A signal
  // that came before is told at once. Nothing is told any more once this has returned with others,
  // or with none.
  void OnStop(std::function<void()> stop, std::function<void()> hurry);
  // What /readyz says.
  void SetReady(bool ready) { is_ready_ = ready; }
  // Is ready, and prints "ready ROLE ADDRESS admin=ADDRESS".
  absl::Status AnnounceReady(absl::string_view address);
  // Prints the same of something else that this process listens for.
  absl::Status Announce(absl::string_view role, absl::string_view address);

 private:
  explicit ServiceProcess(const ProcessSettings& settings) : settings_(settings) {}
  absl::Status StartTracing();
  void OnSignal();

  const ProcessSettings settings_;
  std::unique_ptr<Tracing> tracing_;
  Credentials credentials_;
  Metrics metrics_;
  std::atomic<bool> is_ready_ = false;
  std::unique_ptr<ListenAddress> listen_;
  std::unique_ptr<AdminServer> admin_;

  std::mutex mutex_;
  // Guarded by mutex_.
  bool is_stopping_ = false;
  std::function<void()> stop_, hurry_;

  std::unique_ptr<Interrupts> signals_;  // ends first
};

}  // namespace minicpmv
