#include "services/common/worker_service.h"

#include "services/common/calls.h"
#include "services/common/durations.h"

namespace minicpmv {

grpc::ServerUnaryReactor* WorkerService::GetWorker(grpc::CallbackServerContext* context,
                                                   const control::v1::GetWorkerRequest*,
                                                   control::v1::GetWorkerResponse* response) {
  *response->mutable_hello() = worker_.Hello();
  *response->mutable_load() = worker_.Load();
  return AnswerAtOnce(context);
}

grpc::ServerUnaryReactor* WorkerService::DrainWorker(grpc::CallbackServerContext* context,
                                                     const control::v1::DrainWorkerRequest* request,
                                                     control::v1::DrainWorkerResponse* response) {
  if (request->has_grace()) {
    const absl::StatusOr<absl::Duration> grace = DurationFrom(request->grace());
    if (!grace.ok()) return AnswerAtOnce(context, WithField(grace.status(), "grace"));
    worker_.Drain(*grace);
  } else {
    worker_.Drain();
  }
  response->set_running(static_cast<uint32_t>(worker_.running()));
  return AnswerAtOnce(context);
}

}  // namespace minicpmv
