#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "minicpmv/control/v1/fleet.pb.h"
#include "runtime/engine/local_model.h"
#include "services/common/credentials.h"
#include "services/common/engine_room.h"
#include "services/common/fleet_client.h"
#include "services/common/links.h"
#include "services/common/listen_address.h"
#include "services/common/metrics.h"
#include "services/common/server.h"
#include "services/common/transfer_metrics.h"
#include "services/common/transfer_service.h"
#include "services/common/worker.h"
#include "services/common/worker_service.h"
#include "services/decode/decode_service.h"
#include "services/prefill/prefill_service.h"
#include "services/vision/vision_service.h"
#include "tools/minicpmv/service_settings.h"

namespace minicpmv {

// The insides of a worker: a model, what its roles share, their services, and the port on which
// they answer.
class WorkerProcess {
 public:
  // Loads the model and answers from now on; not in a fleet and not ready yet. Metrics outlive
  // this. Errors of LocalModel::Load and Server::Start.
  static absl::StatusOr<std::unique_ptr<WorkerProcess>> Start(
      const ListenAddress& listen, const ProcessSettings& process, const WorkerSettings& settings,
      const Credentials& credentials, absl::string_view admin_address, Metrics& metrics);
  // It has drained.
  ~WorkerProcess();

  // Joins the fleets of these routers and is ready. INVALID_ARGUMENT names a router that is no
  // address.
  absl::Status Join(const std::vector<std::string>& routers);

  Worker& worker() { return *worker_; }
  const std::string& address() const { return server_->address(); }

 private:
  WorkerProcess() = default;
  absl::Status StartServices(const WorkerSettings& settings);

  std::unique_ptr<LocalModel> model_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<TransferMetrics> transfer_metrics_;
  std::unique_ptr<Links> links_;
  std::unique_ptr<LoadBoard::Entry> links_entry_;
  std::unique_ptr<EngineRoom> engine_room_;
  std::unique_ptr<WorkerService> worker_service_;
  std::unique_ptr<TransferService> transfers_;
  std::unique_ptr<VisionService> vision_;
  std::unique_ptr<PrefillService> prefill_;
  std::unique_ptr<DecodeService> decode_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Listeners<>::Entry> on_state_change_;
  std::vector<std::unique_ptr<FleetClient>> fleets_;
};

}  // namespace minicpmv
