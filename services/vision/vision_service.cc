#include "services/vision/vision_service.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "runtime/base/status_macros.h"
#include "services/common/calls.h"
#include "services/common/durations.h"
#include "services/common/start_call.h"
#include "services/common/trace_metadata.h"
#include "services/vision/encode_call.h"
#include "services/vision/encode_request.h"
#include "services/vision/put_call.h"

namespace minicpmv {

absl::StatusOr<std::unique_ptr<VisionService>> VisionService::Create(Worker& worker,
                                                                     LocalModel& model,
                                                                     const VisionOptions& options) {
  ASSIGN_OR_RETURN(VisionEncoder* const tower, model.Vision());
  ASSIGN_OR_RETURN(Kernels* const kernels, model.VisionKernels());
  return Create(
      worker, model, options,
      std::make_unique<vision::TowerEncoder>(*tower, model.spec(), model.first_device(), *kernels));
}

absl::StatusOr<std::unique_ptr<VisionService>> VisionService::Create(
    Worker& worker, LocalModel& model, const VisionOptions& options,
    std::unique_ptr<vision::SliceEncoder> encoder) {
  auto service = absl::WrapUnique(new VisionService(worker, model, options));
  VisionService* const lent = service.get();
  service->encoder_ = std::move(encoder);
  const ModelSpec& spec = model.spec();
  vision::EncodeQueueOptions queue;
  queue.patch_size = static_cast<int>(spec.vision.patch_size);
  queue.open_media = options.open_media;
  queue.image = options.media.image;
  queue.rows_capacity = options.rows_capacity;
  const vision::RowsShape rows = {model.row_dtype(), spec.resampler.queries, spec.language.hidden};
  ASSIGN_OR_RETURN(service->queue_,
                   vision::EncodeQueue::Start(queue, *service->encoder_, model.first_device(), rows,
                                              service->metrics_, worker.clock()));
  service->room_ = std::make_unique<vision::VisionRoom>(
      vision::VisionRoom{worker, spec, service->metrics_, service->media_, *service->queue_,
                         service->calls_, service->pixel_room_});
  service->board_entry_ =
      worker.board().Add([lent](control::v1::WorkerLoad& load) { lent->Report(load); });
  prometheus::Gauge& landings =
      worker.metrics().Gauge("minicpmv_landings", "Landings that are granted and not closed.");
  service->refresh_ = worker.metrics().before_each_text().Add(
      [&worker, &landings] { landings.Set(static_cast<double>(worker.landings().open())); });
  return service;
}

VisionService::VisionService(Worker& worker, LocalModel& model, const VisionOptions& options)
    : worker_(worker),
      model_(model),
      metrics_(worker.metrics()),
      media_(options.media),
      pixel_room_(options.pixel_capacity) {}

VisionService::~VisionService() = default;

void VisionService::Report(control::v1::WorkerLoad& load) const {
  control::v1::RoleLoad& role = RoleLoadOf(load, common::v1::ROLE_VISION);
  const vision::EncodeLoad queue = queue_->load();
  // Each call is counted once.
  const uint32_t waiting = std::min(static_cast<uint32_t>(queue.waiting_jobs), role.running());
  role.set_waiting(waiting);
  role.set_running(role.running() - waiting);
  role.set_outstanding(static_cast<uint64_t>(queue.outstanding_slices));
  role.set_rate(queue.rate);
  if (!queue.step_age) return;
  *role.mutable_step_age() = ToProto(*queue.step_age);
  if (queue.predicted_step > absl::ZeroDuration()) {
    *role.mutable_predicted_step() = ToProto(queue.predicted_step);
  }
}

grpc::ServerBidiReactor<vision::v1::PutMediaRequest, vision::v1::PutMediaResponse>*
VisionService::PutMedia(grpc::CallbackServerContext* context) {
  const auto stream = vision::PutCall::Stream::Create();
  const auto call = std::make_shared<vision::PutCall>(
      *room_, stream, TraceContextIfTracing(context->client_metadata()));
  StartCall(worker_, common::v1::ROLE_VISION, *context, *stream, *call,
            [&](std::unique_ptr<Worker::Call> admitted) { call->Start(std::move(admitted)); });
  return stream->reactor();
}

grpc::ServerWriteReactor<vision::v1::EncodeMediaResponse>* VisionService::EncodeMedia(
    grpc::CallbackServerContext* context, const vision::v1::EncodeMediaRequest* request) {
  const auto stream = ServerStream<vision::v1::EncodeMediaResponse>::Create();
  absl::StatusOr<vision::EncodePlan> plan =
      vision::ReadEncodeRequest(*request, worker_.identity(), model_.spec(), media_);
  if (!plan.ok()) {
    stream->End(plan.status());
    return stream->reactor();
  }
  const auto call = std::make_shared<vision::EncodeCall>(
      *room_, stream, *std::move(plan), TraceContextIfTracing(context->client_metadata()));
  StartCall(worker_, common::v1::ROLE_VISION, *context, *stream, *call,
            [&](std::unique_ptr<Worker::Call> admitted) { call->Start(std::move(admitted)); });
  return stream->reactor();
}

}  // namespace minicpmv
