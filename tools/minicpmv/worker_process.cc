#include "tools/minicpmv/worker_process.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "runtime/kv/page_pool.h"
#include "services/common/heap.h"
#include "services/common/model_identity.h"
#include "tools/minicpmv/model_folder.h"

namespace minicpmv {
namespace {

// For the last bytes of calls that have ended; links of others stay open and are cut then.
constexpr absl::Duration kFarewell = absl::Milliseconds(300);

bool Plays(const WorkerSettings& settings, common::v1::Role role) {
  return std::find(settings.roles.begin(), settings.roles.end(), role) != settings.roles.end();
}

ModelParts PartsOf(const WorkerSettings& settings) {
  const bool decodes = Plays(settings, common::v1::ROLE_DECODE);
  return {.text = decodes,
          .decoder = decodes || Plays(settings, common::v1::ROLE_PREFILL),
          .head = decodes};
}

std::vector<control::v1::Device> DevicesOf(const LocalModelOptions& options,
                                           const LocalModel& model) {
  std::vector<control::v1::Device> devices;
  for (size_t i = 0; i < options.devices.size(); ++i) {
    control::v1::Device& device = devices.emplace_back();
    device.set_name(absl::StrCat("cpu:threads=", options.devices[i].threads));
    if (i >= model.stages().size()) continue;
    const LayerRange& range = model.stages()[i];
    device.set_first_layer(static_cast<uint32_t>(range.first));
    device.set_layers(static_cast<uint32_t>(range.count()));
  }
  return devices;
}

control::v1::Capacity CapacityOf(const WorkerSettings& settings, LocalModel& model) {
  control::v1::Capacity capacity;
  if (model.has_engine()) {
    capacity.set_pages(static_cast<uint32_t>(model.engine().stats().pages));
    capacity.set_page_tokens(kPageSize);
    capacity.set_max_sequence_tokens(static_cast<uint32_t>(model.max_positions()));
  }
  if (Plays(settings, common::v1::ROLE_VISION)) {
    capacity.set_media_bytes(static_cast<uint64_t>(settings.media_bytes));
    capacity.set_rows_cache_bytes(static_cast<uint64_t>(settings.rows_cache_bytes));
  }
  return capacity;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerProcess>> WorkerProcess::Start(
    const ListenAddress& listen, const ProcessSettings& process, const WorkerSettings& settings,
    const Credentials& credentials, absl::string_view admin_address, Metrics& metrics) {
  KeepFreedMemory();
  std::unique_ptr<WorkerProcess> made(new WorkerProcess);
  LocalModelOptions options = settings.model;
  ASSIGN_OR_RETURN(options.folder, ResolveModelFolder(options.folder));
  options.parts = PartsOf(settings);
  ASSIGN_OR_RETURN(made->model_, LocalModel::Load(options));

  WorkerOptions worker;
  worker.id = settings.id;
  worker.address = settings.advertise.empty() ? listen.text() : settings.advertise;
  worker.admin_address = std::string(admin_address);
  worker.roles = settings.roles;
  worker.identity =
      IdentityOf(*made->model_,
                 settings.model_name.empty() ? ModelNameOf(options.folder) : settings.model_name);
  worker.devices = DevicesOf(options, *made->model_);
  worker.capacity = CapacityOf(settings, *made->model_);
  worker.drain_grace = process.drain_grace;
  worker.credentials = credentials;
  made->worker_ = std::make_unique<Worker>(std::move(worker), metrics);
  RETURN_IF_ERROR(made->StartServices(settings));

  ServerOptions server;
  server.credentials = credentials;
  server.reflection = process.reflection;
  std::vector<grpc::Service*> services = {made->worker_service_.get(), made->transfers_.get()};
  if (made->vision_ != nullptr) services.push_back(made->vision_.get());
  if (made->prefill_ != nullptr) services.push_back(made->prefill_.get());
  if (made->decode_ != nullptr) services.push_back(made->decode_.get());
  ASSIGN_OR_RETURN(made->server_, Server::Start(listen, server, services));
  WorkerProcess& self = *made;
  made->on_state_change_ = made->worker_->state_changes().Add([&self] {
    self.server_->SetReady(self.worker_->state() == control::v1::WORKER_STATE_READY);
  });
  return made;
}

absl::Status WorkerProcess::StartServices(const WorkerSettings& settings) {
  Worker& worker = *worker_;
  transfer_metrics_ = std::make_unique<TransferMetrics>(worker.metrics());
  LinksOptions links;
  links.worker_id = worker.id();
  links.incarnation = worker.incarnation();
  links.layout_fingerprint = worker.identity().layout_fingerprint();
  links.credentials = worker.credentials();
  links_ = std::make_unique<Links>(links, worker.landings(), *transfer_metrics_);
  worker.SetLinks(*links_);
  links_entry_ = worker.board().Add([this](control::v1::WorkerLoad& load) {
    for (control::v1::LinkState& state : links_->States()) *load.add_links() = std::move(state);
  });

  TransferOptions transfers;
  transfers.worker_id = worker.id();
  transfers.incarnation = worker.incarnation();
  transfers.layout_fingerprint = worker.identity().layout_fingerprint();
  transfers_ = std::make_unique<TransferService>(transfers, worker.landings(), *transfer_metrics_);
  worker_service_ = std::make_unique<WorkerService>(worker);
  if (model_->has_engine()) engine_room_ = std::make_unique<EngineRoom>(worker, *model_);
  if (Plays(settings, common::v1::ROLE_VISION)) {
    VisionOptions options;
    options.media.capacity = static_cast<size_t>(settings.media_bytes);
    options.rows_capacity = static_cast<size_t>(settings.rows_cache_bytes);
    ASSIGN_OR_RETURN(vision_, VisionService::Create(worker, *model_, options));
  }
  if (Plays(settings, common::v1::ROLE_PREFILL)) {
    prefill_ = std::make_unique<PrefillService>(*engine_room_);
  }
  if (Plays(settings, common::v1::ROLE_DECODE)) {
    decode_ = std::make_unique<DecodeService>(*engine_room_);
  }
  return absl::OkStatus();
}

absl::Status WorkerProcess::Join(const std::vector<std::string>& routers) {
  for (const std::string& router : routers) {
    absl::StatusOr<std::unique_ptr<FleetClient>> fleet =
        FleetClient::Start(*worker_, router, /*meet=*/nullptr);
    if (!fleet.ok()) return Blame("--router", fleet.status());
    fleets_.push_back(*std::move(fleet));
  }
  worker_->SetReady();
  return absl::OkStatus();
}

WorkerProcess::~WorkerProcess() {
  fleets_.clear();
  on_state_change_.reset();
  if (server_ != nullptr) server_->Shutdown(kFarewell);
}

}  // namespace minicpmv
