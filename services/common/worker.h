#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "minicpmv/common/v1/worker.pb.h"
#include "minicpmv/control/v1/fleet.pb.h"
#include "runtime/base/clock.h"
#include "runtime/link/landings.h"
#include "services/common/credentials.h"
#include "services/common/listeners.h"
#include "services/common/load_board.h"
#include "services/common/metrics.h"
#include "services/common/transfer_version.h"

namespace minicpmv {

class Links;

struct WorkerOptions {
  std::string id;             // "": derived from the address
  std::string address;        // where others reach us, "host:port"
  std::string admin_address;  // where metrics are
  std::vector<common::v1::Role> roles;
  common::v1::ModelIdentity identity;
  std::vector<control::v1::Device> devices;
  control::v1::Capacity capacity;
  // How long calls that run may take to end once the worker drains.
  absl::Duration drain_grace = absl::Seconds(30);
  Credentials credentials;
};

// Names a router's calls: metadata of each call that a router opens at a worker, with the router's
// incarnation in hex.
inline constexpr absl::string_view kRouterMetadata = "minicpmv-router";

// What the roles of one worker process share. Thread-safe. Lives longer than all services.
class Worker {
 public:
  Worker(WorkerOptions options, Metrics& metrics, const Clock& clock = Clock::Monotonic());
  ~Worker();

  const std::string& id() const { return options_.id; }
  const std::string& address() const { return options_.address; }
  // Random at each start.
  const Incarnation& incarnation() const { return landings_.incarnation(); }
  const common::v1::ModelIdentity& identity() const { return options_.identity; }
  const Credentials& credentials() const { return options_.credentials; }
  Landings& landings() { return landings_; }
  LoadBoard& board() { return board_; }
  Metrics& metrics() { return metrics_; }
  const Clock& clock() const { return clock_; }

  // Named once, before anything answers; lives longer than the services that use it.
  void SetLinks(Links& links);
  Links& links();

  // One call that the worker has taken; its end is the end of the call. Given back on any thread,
  // before the worker ends.
  class Call {
   public:
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    friend class Worker;
    Call(Worker& worker, int64_t id) : worker_(worker), id_(id) {}
    Worker& worker_;
    int64_t id_;
  };
  // Takes a call on behalf of the router that `metadata` names (ServerContext::client_metadata()).
  // `hand_back` is called at most once, on any thread and without a lock of ours, when the worker
  // drains and the grace is over: end the call with Draining() soon. It is not called any more when
  // ~Call has returned; so do not end the Call while holding a lock that hand_back takes.
  // FAILED_PRECONDITION, reason DRAINING: the worker takes nothing new.
  absl::StatusOr<std::unique_ptr<Call>> Admit(
      common::v1::Role role, const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
      absl::AnyInvocable<void()> hand_back);
  // ABORTED, reason DRAINING: another worker can go on with it.
  static absl::Status HandedBack();

  // From loading to ready, once.
  void SetReady();
  bool draining() const;
  // Not ready from now on. After `grace` the calls that still run are handed back. Again: only a
  // shorter grace counts. Returns at once.
  void Drain(absl::Duration grace);
  // The own setting's grace.
  void Drain() { Drain(options_.drain_grace); }
  // Waits until it drains and nothing runs any more.
  void WaitUntilDrained();
  // Calls that are still being worked on.
  int64_t running() const;
  control::v1::WorkerState state() const;
  // Told after each change of the state, on the thread that changed it: look at state().
  Listeners<>& state_changes() { return state_changes_; }

  control::v1::WorkerHello Hello() const;
  // How it is. `router`: counts the calls of the router with that incarnation (16 bytes) alone.
  control::v1::WorkerLoad Load(absl::string_view router = "");
  // Starts counting that router's calls from 0: its stream has been opened anew.
  void ForgetCalls(absl::string_view router);

 private:
  struct Running {
    common::v1::Role role = common::v1::ROLE_UNSPECIFIED;
    absl::AnyInvocable<void()> hand_back;
    bool is_telling = false;  // hand_back is being called, by `teller`
    std::thread::id teller;
  };
  void Leave(int64_t id);
  // Hands back what still runs when the grace is over.
  void AwaitGrace();

  const WorkerOptions options_;
  Metrics& metrics_;
  const Clock& clock_;
  Landings landings_;
  LoadBoard board_;
  Listeners<> state_changes_;
  Links* links_ = nullptr;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // of what is below
  control::v1::WorkerState state_ = control::v1::WORKER_STATE_LOADING;
  int64_t last_call_ = 0;
  std::map<int64_t, Running> calls_;
  std::map<std::string, uint64_t> opened_;  // by the router's incarnation in hex
  std::chrono::steady_clock::time_point hand_back_at_;
  bool is_ending_ = false;
  std::thread grace_;  // from the first Drain on
};

}  // namespace minicpmv
