#include "services/common/fleet_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/log.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "services/common/durations.h"

namespace minicpmv {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr absl::Duration kShortestInterval = absl::Milliseconds(20);
constexpr absl::Duration kLongestInterval = absl::Seconds(60);
constexpr absl::Duration kOwnInterval = absl::Seconds(1);
constexpr std::chrono::milliseconds kFirstPause{100}, kLastPause{2000};
constexpr size_t kIncarnationBytes = 16;
// A router that reads nothing gets no more of them until it does.
constexpr size_t kMostWaiting = 2;

}  // namespace

absl::StatusOr<std::unique_ptr<FleetClient>> FleetClient::Start(Worker& worker,
                                                                absl::string_view router,
                                                                Meet meet) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, worker.credentials().Dial(router));
  std::unique_ptr<FleetClient> client(
      new FleetClient(worker, std::string(router), std::move(meet)));
  client->stub_ = control::v1::FleetService::NewStub(channel);
  FleetClient& self = *client;
  client->on_state_change_ = worker.state_changes().Add([&self] {
    {
      const std::lock_guard<std::mutex> lock(self.mutex_);
      self.wants_heartbeat_ = true;
    }
    self.changed_.notify_all();
  });
  client->thread_ = std::thread([&self] { self.Run(); });
  return client;
}

FleetClient::~FleetClient() {
  on_state_change_.reset();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ending_ = true;
    if (stream_ != nullptr) stream_->Cancel();
  }
  changed_.notify_all();
  thread_.join();
}

bool FleetClient::is_welcome() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !router_incarnation_.empty() && !end_.has_value();
}

void FleetClient::Run() {
  std::chrono::milliseconds pause = kFirstPause;
  while (true) {
    if (Join()) pause = kFirstPause;
    std::unique_lock<std::mutex> lock(mutex_);
    if (changed_.wait_for(lock, pause, [this] { return is_ending_; })) return;
    pause = std::min(2 * pause, kLastPause);
  }
}

bool FleetClient::Join() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_ending_) return false;
    end_.reset();
    router_incarnation_.clear();
    wants_heartbeat_ = false;
    stream_ = Stream::Start(
        [this](grpc::ClientContext* context, auto* reactor) {
          stub_->async()->JoinFleet(context, reactor);
        },
        {[this](control::v1::JoinFleetResponse response) { OnResponse(std::move(response)); },
         [this](const absl::Status& status) {
           // Told under the lock: when the thread sees the end, gRPC is done with us.
           const std::lock_guard<std::mutex> lock(mutex_);
           end_ = status;
           changed_.notify_all();
         }});
    control::v1::JoinFleetRequest request;
    *request.mutable_hello() = worker_.Hello();
    stream_->Send(std::move(request));
  }
  heartbeats_ = 0;

  std::unique_lock<std::mutex> lock(mutex_);
  auto next = std::chrono::steady_clock::time_point::max();
  bool was_welcome = false;
  while (!end_.has_value()) {
    if (!was_welcome && !router_incarnation_.empty()) {
      was_welcome = true;
      last_complaint_.clear();
      LogInfo(absl::StrCat("joined the fleet of router ", router_));
      wants_heartbeat_ = true;
    }
    const auto now = std::chrono::steady_clock::now();
    if (was_welcome && (wants_heartbeat_ || now >= next)) {
      wants_heartbeat_ = false;
      const std::shared_ptr<Stream> stream = stream_;
      const std::string router = router_incarnation_;
      next = now + interval_;
      lock.unlock();
      if (stream->waiting() < kMostWaiting) stream->Send(NextHeartbeat(router));
      lock.lock();
      continue;
    }
    const auto ready = [&] {
      return end_.has_value() || (!was_welcome && !router_incarnation_.empty()) ||
             (was_welcome && wants_heartbeat_);
    };
    if (was_welcome) {
      changed_.wait_until(lock, next, ready);
    } else {
      changed_.wait(lock, ready);
    }
  }
  const absl::Status status = *end_;
  const bool is_ending = is_ending_;
  stream_.reset();
  lock.unlock();
  if (!is_ending) Report(status);
  return was_welcome;
}

control::v1::JoinFleetRequest FleetClient::NextHeartbeat(const std::string& router_incarnation) {
  control::v1::JoinFleetRequest request;
  request.mutable_heartbeat()->set_sequence(++heartbeats_);
  *request.mutable_heartbeat()->mutable_load() = worker_.Load(router_incarnation);
  return request;
}

void FleetClient::OnResponse(control::v1::JoinFleetResponse response) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (router_incarnation_.empty()) {
      const control::v1::Welcome& welcome = response.welcome();
      if (!response.has_welcome() || welcome.router_incarnation().size() != kIncarnationBytes) {
        stream_->Cancel();  // whoever that is, it is no router
        return;
      }
      const absl::Duration interval =
          std::clamp(DurationFrom(welcome.heartbeat_interval()).value_or(kOwnInterval),
                     kShortestInterval, kLongestInterval);
      interval_ = absl::ToChronoNanoseconds(interval);
      worker_.ForgetCalls(welcome.router_incarnation());
      router_incarnation_ = welcome.router_incarnation();
      changed_.notify_all();
      return;
    }
  }
  if (response.has_order()) OnOrder(response.order());
}

void FleetClient::OnOrder(const control::v1::Order& order) {
  if (order.has_drain()) {
    LogInfo(absl::StrCat("router ", router_, " orders us to drain"));
    const absl::StatusOr<absl::Duration> grace = DurationFrom(order.drain().grace());
    if (order.drain().has_grace() && grace.ok()) {
      worker_.Drain(*grace);
    } else {
      worker_.Drain();
    }
  } else if (order.has_meet() && meet_) {
    meet_(order.meet());
  }
}

void FleetClient::Report(const absl::Status& status) {
  const std::string complaint =
      absl::StrCat("router ", router_, ": ", absl::StatusCodeToString(status.code()), ": ",
                   Quoted(status.message()));
  if (complaint == last_complaint_) return;
  last_complaint_ = complaint;
  if (status.code() == absl::StatusCode::kFailedPrecondition ||
      status.code() == absl::StatusCode::kUnauthenticated) {
    LogError(complaint);
  } else {
    LogWarning(complaint);
  }
}

}  // namespace minicpmv
