#include "services/router/fleet_service.h"

#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "services/common/calls.h"
#include "services/common/durations.h"
#include "services/common/read_prompt.h"

namespace minicpmv::router {
namespace {

// One JoinFleet, from hello to end.
class Membership final : public FleetStream, public std::enable_shared_from_this<Membership> {
 public:
  using Stream = ServerBidi<control::v1::JoinFleetRequest, control::v1::JoinFleetResponse>;

  Membership(Fleet& fleet, Loop& loop, const std::string& incarnation,
             std::shared_ptr<Stream> stream)
      : fleet_(fleet), loop_(loop), incarnation_(incarnation), stream_(std::move(stream)) {}

  void Start() {
    const auto self = shared_from_this();
    stream_->OnGone([self] { self->Post(&Membership::Leave); });
    stream_->Receive([self](std::optional<control::v1::JoinFleetRequest> request) {
      self->OnRequest(std::move(request));
    });
  }

  // FleetStream, on the loop.
  void Order(const control::v1::Order& order) override {
    control::v1::JoinFleetResponse response;
    *response.mutable_order() = order;
    stream_->Send(std::move(response));
  }
  void End(const absl::Status& status) override {
    is_over_ = true;
    stream_->End(status);
  }

 private:
  void Post(void (Membership::*what)()) {
    loop_.Post([self = shared_from_this(), what] { ((*self).*what)(); });
  }

  // On gRPC's threads. A worker that says more than we can hear is heard as it is now: of
  // heartbeats that wait for the loop only the last one counts.
  void OnRequest(std::optional<control::v1::JoinFleetRequest> request) {
    if (!request.has_value()) return Post(&Membership::Leave);
    if (request->has_hello() && !has_hello_) {
      has_hello_ = true;
      loop_.Post([self = shared_from_this(), hello = std::move(*request->mutable_hello())] {
        self->Join(hello);
      });
    } else if (request->has_heartbeat() && has_hello_) {
      const std::lock_guard<std::mutex> lock(mutex_);
      const bool is_posted = heartbeat_.has_value();
      heartbeat_ = std::move(*request->mutable_heartbeat());
      if (!is_posted) Post(&Membership::Report);
    } else {
      stream_->End(BadField("event", has_hello_ ? "is not a heartbeat" : "is not a hello"));
      Post(&Membership::Leave);
    }
  }

  // On the loop.
  void Join(const control::v1::WorkerHello& hello) {
    if (is_over_) return;
    const absl::StatusOr<Fleet::StreamId> id = fleet_.Join(hello, *this);
    if (!id.ok()) return End(id.status());
    id_ = *id;
    control::v1::JoinFleetResponse response;
    control::v1::Welcome& welcome = *response.mutable_welcome();
    welcome.set_router_incarnation(incarnation_);
    *welcome.mutable_heartbeat_interval() = ToProto(fleet_.heartbeat_interval());
    stream_->Send(std::move(response));
  }
  void Report() {
    std::optional<control::v1::Heartbeat> heartbeat;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      heartbeat = std::exchange(heartbeat_, std::nullopt);
    }
    if (is_over_ || !id_ || !heartbeat) return;
    if (const absl::Status status = fleet_.Report(*id_, *heartbeat); !status.ok()) {
      stream_->End(status);
      Leave();
    }
  }
  void Leave() {
    if (!is_over_ && id_) fleet_.Leave(*id_);
    // Where the fleet ended it or the event was wrong the stream has been told why.
    End(absl::OkStatus());
  }

  Fleet& fleet_;
  Loop& loop_;
  const std::string& incarnation_;
  const std::shared_ptr<Stream> stream_;

  bool has_hello_ = false;  // of gRPC's threads

  std::mutex mutex_;
  std::optional<control::v1::Heartbeat> heartbeat_;  // guarded by mutex_

  // Of the loop.
  std::optional<Fleet::StreamId> id_;
  bool is_over_ = false;
};

}  // namespace

FleetService::FleetService(Fleet& fleet, Loop& loop, std::string incarnation)
    : fleet_(fleet), loop_(loop), incarnation_(std::move(incarnation)) {}

grpc::ServerBidiReactor<control::v1::JoinFleetRequest, control::v1::JoinFleetResponse>*
FleetService::JoinFleet(grpc::CallbackServerContext*) {
  auto stream = Membership::Stream::Create();
  std::make_shared<Membership>(fleet_, loop_, incarnation_, stream)->Start();
  return stream->reactor();
}

grpc::ServerUnaryReactor* FleetService::ListWorkers(grpc::CallbackServerContext*,
                                                    const control::v1::ListWorkersRequest* request,
                                                    control::v1::ListWorkersResponse* response) {
  const auto call = ServerUnary<control::v1::ListWorkersResponse>::Create(response);
  loop_.Post([this, call, request = *request] { call->End(fleet_.List(request)); });
  return call->reactor();
}

}  // namespace minicpmv::router
