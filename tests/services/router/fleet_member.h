#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "minicpmv/control/v1/fleet_service.grpc.pb.h"

namespace minicpmv::router {

// A hello of a decode worker that a fleet takes.
inline control::v1::WorkerHello HelloOf(const std::string& id, char incarnation) {
  control::v1::WorkerHello hello;
  hello.set_worker_id(id);
  hello.set_incarnation(std::string(16, incarnation));
  hello.set_address("127.0.0.1:1234");
  hello.set_admin_address("127.0.0.1:1235");
  hello.set_pid(77);
  hello.add_roles(common::v1::ROLE_DECODE);
  hello.mutable_model()->set_model("nano");
  hello.mutable_model()->set_model_fingerprint(std::string(32, 'm'));
  hello.mutable_model()->set_layout_fingerprint(std::string(32, 'l'));
  hello.mutable_model()->set_numerics_class("cpu-f32-1");
  hello.set_first_transfer_version(1);
  hello.set_last_transfer_version(1);
  hello.mutable_capacity()->set_pages(10);
  hello.mutable_capacity()->set_page_tokens(16);
  hello.mutable_capacity()->set_max_sequence_tokens(160);
  return hello;
}

// One worker's stream to a router.
class FleetMember {
 public:
  using Stream =
      grpc::ClientReaderWriter<control::v1::JoinFleetRequest, control::v1::JoinFleetResponse>;

  FleetMember(control::v1::FleetService::Stub& stub, const control::v1::WorkerHello& hello)
      : stream_(stub.JoinFleet(&context_)) {
    control::v1::JoinFleetRequest request;
    *request.mutable_hello() = hello;
    stream_->Write(request);
  }
  ~FleetMember() {
    context_.TryCancel();
    if (!has_ended_) stream_->Finish();
  }

  control::v1::JoinFleetResponse Read() {
    control::v1::JoinFleetResponse response;
    stream_->Read(&response);
    return response;
  }
  void Report(control::v1::WorkerState state, uint32_t free_pages = 10) {
    control::v1::JoinFleetRequest request;
    request.mutable_heartbeat()->set_sequence(++sequence_);
    control::v1::WorkerLoad& load = *request.mutable_heartbeat()->mutable_load();
    load.set_state(state);
    load.mutable_pages()->set_free(free_pages);
    stream_->Write(request);
  }
  grpc::Status End() {
    has_ended_ = true;
    return stream_->Finish();
  }
  Stream& stream() { return *stream_; }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;
  uint64_t sequence_ = 0;
  bool has_ended_ = false;
};

}  // namespace minicpmv::router
