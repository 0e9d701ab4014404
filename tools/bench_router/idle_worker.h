#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "minicpmv/control/v1/fleet_service.grpc.pb.h"
#include "minicpmv/decode/v1/decode_service.grpc.pb.h"
#include "minicpmv/prefill/v1/prefill_service.grpc.pb.h"
#include "minicpmv/vision/v1/vision_service.grpc.pb.h"
#include "services/common/calls.h"

namespace minicpmv {

// A worker of all roles that computes nothing: media are held at once, rows and pages have landed
// at once, and each sequence gets a token at each step of a fixed length, the first when its prompt
// has landed. What it costs is a process of its own, apart from the router's.
class IdleWorker final {
 public:
  // `model_fingerprint`: 32 bytes.
  IdleWorker(const std::string& model_fingerprint, absl::Duration step);
  ~IdleWorker();

  const std::string& address() const { return address_; }
  // Joins the fleet of a router and stays until the end.
  void Join(const std::string& router);

 private:
  class Vision;
  class Prefill;
  class Decode;
  using DecodeStream = ServerStream<decode::v1::DecodeSequenceResponse>;
  struct Sequence {
    std::shared_ptr<DecodeStream> stream;
    uint32_t sent = 0, wanted = 0;
    bool has_prompt = false;
  };

  void Add(uint64_t slot, Sequence sequence);
  void PromptLanded(uint64_t slot);
  void Remove(uint64_t slot);
  // The next token, and the ending after the last: true. mutex_ is held.
  static bool Step(Sequence& sequence);
  void RunSteps();
  common::v1::Landing NewLanding();

  const std::string model_fingerprint_;
  const absl::Duration step_;
  std::unique_ptr<Vision> vision_;
  std::unique_ptr<Prefill> prefill_;
  std::unique_ptr<Decode> decode_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;

  std::atomic<uint64_t> slots_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_ending_ = false;                  // guarded by mutex_
  std::map<uint64_t, Sequence> sequences_;  // guarded by mutex_

  using FleetCall = ClientBidi<control::v1::JoinFleetRequest, control::v1::JoinFleetResponse>;
  std::unique_ptr<control::v1::FleetService::Stub> fleet_;
  std::shared_ptr<FleetCall> membership_;
  std::thread steps_, heartbeats_;
};

}  // namespace minicpmv
