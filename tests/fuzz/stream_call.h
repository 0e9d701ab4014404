#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "services/common/status_proto.h"

namespace minicpmv {

// A server without a port, for calls whose every byte a fuzz target writes itself.
class ServerWithoutPort {
 public:
  explicit ServerWithoutPort(grpc::Service& service) {
    grpc::ServerBuilder builder;
    builder.RegisterService(&service);
    server_ = builder.BuildAndStart();
    channel_ = server_->InProcessChannel(grpc::ChannelArguments());
    stub_ = std::make_unique<grpc::GenericStub>(channel_);
  }
  ~ServerWithoutPort() {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  // How a call ends that says these messages and no more. Its answers are read and let go of.
  absl::Status Call(const std::string& method, const std::vector<grpc::ByteBuffer>& messages) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    grpc::CompletionQueue queue;
    const auto stream = stub_->PrepareCall(&context, method, &queue);
    bool ok = false;
    // One operation at a time: what is asked of the queue is the end of the last one.
    const auto await = [&] {
      void* tag = nullptr;
      CHECK(queue.Next(&tag, &ok));
      return ok;
    };
    stream->StartCall(nullptr);
    bool is_open = await();
    for (size_t i = 0; is_open && i < messages.size(); ++i) {
      stream->Write(messages[i], nullptr);
      is_open = await();
    }
    if (is_open) {
      stream->WritesDone(nullptr);
      await();
    }
    grpc::ByteBuffer answer;
    do {
      stream->Read(&answer, nullptr);
    } while (await());
    grpc::Status status;
    stream->Finish(&status, nullptr);
    await();
    queue.Shutdown();
    void* tag = nullptr;
    CHECK(!queue.Next(&tag, &ok));
    return FromGrpc(status);
  }

 private:
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
};

inline grpc::ByteBuffer BufferOf(absl::string_view bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace minicpmv
