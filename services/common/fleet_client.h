#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "minicpmv/control/v1/fleet_service.grpc.pb.h"
#include "services/common/calls.h"
#include "services/common/worker.h"

namespace minicpmv {

// Keeps a worker in the fleet of one router, for as long as this lives: says hello, then sends a
// heartbeat at the interval that the router names and at once when the worker's state changes;
// dials again, after a pause that grows from 0.1 s to 2 s, whenever the stream ends. The log says
// when the router is found, lost or refuses, each once. A drain order drains the worker.
class FleetClient {
 public:
  // Told on a gRPC thread: bring up the link to that worker. Must not block.
  using Meet = std::function<void(const control::v1::MeetOrder&)>;

  // INVALID_ARGUMENT: no address. `meet` may be empty.
  static absl::StatusOr<std::unique_ptr<FleetClient>> Start(Worker& worker,
                                                            absl::string_view router, Meet meet);
  // Leaves the fleet.
  ~FleetClient();

  // The router has welcomed us, and the stream holds.
  bool is_welcome() const;

 private:
  using Stream = ClientBidi<control::v1::JoinFleetRequest, control::v1::JoinFleetResponse>;

  FleetClient(Worker& worker, std::string router, Meet meet)
      : worker_(worker), router_(std::move(router)), meet_(std::move(meet)) {}
  void Run();
  // One stream, from hello to its end. True if the router had welcomed us.
  bool Join();
  void OnResponse(control::v1::JoinFleetResponse response);
  void OnOrder(const control::v1::Order& order);
  void Report(const absl::Status& status);
  control::v1::JoinFleetRequest NextHeartbeat(const std::string& router_incarnation);

  Worker& worker_;
  const std::string router_;
  const Meet meet_;
  std::unique_ptr<control::v1::FleetService::Stub> stub_;
  uint64_t heartbeats_ = 0;     // of the present stream; the thread's
  std::string last_complaint_;  // the thread's

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool is_ending_ = false;
  bool wants_heartbeat_ = false;
  std::shared_ptr<Stream> stream_;
  std::optional<absl::Status> end_;  // of the present stream
  std::string router_incarnation_;   // "" before the welcome
  std::chrono::nanoseconds interval_{};

  std::unique_ptr<Listeners<>::Entry> on_state_change_;
  std::thread thread_;
};

}  // namespace minicpmv
