#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "minicpmv/chat/v1/chat_service.grpc.pb.h"

namespace minicpmv {

// A router that does what its script says, call by call.
class FakeRouter final : public chat::v1::ChatService::Service {
 public:
  using Writer = grpc::ServerWriter<chat::v1::StreamReplyResponse>;
  using Script = std::function<grpc::Status(const chat::v1::StreamReplyRequest&, Writer&,
                                            grpc::ServerContext&)>;

  FakeRouter() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeRouter() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // What the next call of StreamReply that has no script yet is answered with.
  void Then(Script script) {
    const std::lock_guard<std::mutex> lock(mutex_);
    scripts_.push_back(std::move(script));
  }
  std::vector<chat::v1::StreamReplyRequest> requests() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return requests_;
  }
  std::vector<std::string> uploads() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return uploads_;
  }
  int offers() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return offers_;
  }

  grpc::Status StreamReply(grpc::ServerContext* context,
                           const chat::v1::StreamReplyRequest* request, Writer* writer) override {
    Script script;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      requests_.push_back(*request);
      if (scripts_.empty()) return {grpc::StatusCode::INTERNAL, "no script is left"};
      script = std::move(scripts_.front());
      scripts_.pop_front();
    }
    return script(*request, *writer, *context);
  }

  grpc::Status UploadMedia(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<chat::v1::UploadMediaResponse, chat::v1::UploadMediaRequest>* stream)
      override {
    chat::v1::UploadMediaRequest request;
    stream->Read(&request);
    const std::string digest = request.offer().digest();
    const uint64_t size = request.offer().size();
    chat::v1::UploadMediaResponse response;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++offers_;
      response.set_decision(held_.count(digest) > 0 ? chat::v1::UploadMediaResponse::DECISION_HELD
                                                    : chat::v1::UploadMediaResponse::DECISION_SEND);
    }
    stream->Write(response);
    std::string bytes;
    while (stream->Read(&request)) {
      if (request.chunk().offset() != bytes.size() || request.chunk().data().size() > 256 << 10) {
        return {grpc::StatusCode::DATA_LOSS, "a chunk is out of order"};
      }
      bytes += request.chunk().data();
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (response.decision() == chat::v1::UploadMediaResponse::DECISION_SEND) {
      if (bytes.size() != size) return {grpc::StatusCode::DATA_LOSS, "another size"};
      uploads_.push_back(bytes);
      held_.insert({digest, "handle-" + std::to_string(held_.size()) + "@" + address()});
    }
    response.mutable_media()->set_handle(held_[digest]);
    stream->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status ListModels(grpc::ServerContext* context, const chat::v1::ListModelsRequest*,
                          chat::v1::ListModelsResponse* response) override {
    // The name of the one model is what the caller showed.
    const auto& metadata = context->client_metadata();
    const auto token = metadata.find("authorization"),
               scope = metadata.find("minicpmv-cache-scope");
    std::string name;
    if (token != metadata.end()) name += std::string(token->second.data(), token->second.size());
    name += "|";
    if (scope != metadata.end()) name += std::string(scope->second.data(), scope->second.size());
    response->add_models()->set_name(name);
    return grpc::Status::OK;
  }

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_;
  std::deque<Script> scripts_;
  std::vector<chat::v1::StreamReplyRequest> requests_;
  std::map<std::string, std::string> held_;
  std::vector<std::string> uploads_;
  int offers_ = 0;
};

}  // namespace minicpmv
