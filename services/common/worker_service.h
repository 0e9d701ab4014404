#pragma once

#include "minicpmv/control/v1/worker_service.grpc.pb.h"
#include "services/common/worker.h"

namespace minicpmv {

// Answers what anybody may ask a worker directly. Thread-safe.
class WorkerService final : public control::v1::WorkerService::CallbackService {
 public:
  explicit WorkerService(Worker& worker) : worker_(worker) {}

  grpc::ServerUnaryReactor* GetWorker(grpc::CallbackServerContext* context,
                                      const control::v1::GetWorkerRequest* request,
                                      control::v1::GetWorkerResponse* response) override;
  grpc::ServerUnaryReactor* DrainWorker(grpc::CallbackServerContext* context,
                                        const control::v1::DrainWorkerRequest* request,
                                        control::v1::DrainWorkerResponse* response) override;

 private:
  Worker& worker_;
};

}  // namespace minicpmv
