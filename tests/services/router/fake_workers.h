#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "minicpmv/decode/v1/decode_service.grpc.pb.h"
#include "minicpmv/prefill/v1/prefill_service.grpc.pb.h"
#include "minicpmv/vision/v1/vision_service.grpc.pb.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// A worker process of all roles that does what a test says. Methods are called on gRPC's threads.
class FakeWorker final : public vision::v1::VisionService::Service,
                         public prefill::v1::PrefillService::Service,
                         public decode::v1::DecodeService::Service {
 public:
  using Put = std::function<grpc::Status(
      grpc::ServerContext&,
      grpc::ServerReaderWriter<vision::v1::PutMediaResponse, vision::v1::PutMediaRequest>&)>;
  using Encode =
      std::function<grpc::Status(grpc::ServerContext&, const vision::v1::EncodeMediaRequest&,
                                 grpc::ServerWriter<vision::v1::EncodeMediaResponse>&)>;
  using Prefill =
      std::function<grpc::Status(grpc::ServerContext&, const prefill::v1::PrefillPromptRequest&,
                                 grpc::ServerWriter<prefill::v1::PrefillPromptResponse>&)>;
  using Decode =
      std::function<grpc::Status(grpc::ServerContext&, const decode::v1::DecodeSequenceRequest&,
                                 grpc::ServerWriter<decode::v1::DecodeSequenceResponse>&)>;

  explicit FakeWorker(std::string id) : name_{std::move(id), "", std::string(16, 'i')} {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(static_cast<vision::v1::VisionService::Service*>(this));
    builder.RegisterService(static_cast<prefill::v1::PrefillService::Service*>(this));
    builder.RegisterService(static_cast<decode::v1::DecodeService::Service*>(this));
    server_ = builder.BuildAndStart();
    name_.address = "127.0.0.1:" + std::to_string(port);
  }
  ~FakeWorker() override { server_->Shutdown(std::chrono::system_clock::now()); }

  const WorkerName& name() const { return name_; }

  // Set before anything is asked.
  Put put;
  Encode encode;
  Prefill prefill;
  Decode decode;

 private:
  grpc::Status PutMedia(grpc::ServerContext* context,
                        grpc::ServerReaderWriter<vision::v1::PutMediaResponse,
                                                 vision::v1::PutMediaRequest>* stream) override {
    return put(*context, *stream);
  }
  grpc::Status EncodeMedia(grpc::ServerContext* context,
                           const vision::v1::EncodeMediaRequest* request,
                           grpc::ServerWriter<vision::v1::EncodeMediaResponse>* writer) override {
    return encode(*context, *request, *writer);
  }
  grpc::Status PrefillPrompt(
      grpc::ServerContext* context, const prefill::v1::PrefillPromptRequest* request,
      grpc::ServerWriter<prefill::v1::PrefillPromptResponse>* writer) override {
    return prefill(*context, *request, *writer);
  }
  grpc::Status DecodeSequence(
      grpc::ServerContext* context, const decode::v1::DecodeSequenceRequest* request,
      grpc::ServerWriter<decode::v1::DecodeSequenceResponse>* writer) override {
    return decode(*context, *request, *writer);
  }

  WorkerName name_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace minicpmv::router
