#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/link/landings.h"
#include "runtime/link/link.h"
#include "services/common/own_landings.h"
#include "services/common/status_proto.h"
#include "tests/services/router/simulated_engine.h"
#include "tests/services/router/simulated_fleet.h"

namespace minicpmv::router {

// By age: the order of things must not hang on addresses.
struct SimulatedFleet::ByAge {
  bool operator()(const std::shared_ptr<Call>& a, const std::shared_ptr<Call>& b) const;
};

// One process of a worker; `life` tells its lives apart.
class SimulatedFleet::Process final : public FleetStream {
 public:
  Process(SimulatedFleet& fleet, std::string id, std::vector<common::v1::Role> roles);

  void Boot();
  // Whatever it works for goes with it. Its calls are no longer open; those that were are returned.
  Calls Die();

  // Does it when the process runs: not while it is frozen, and not in another life.
  void After(absl::Duration delay, std::function<void()> call);

  // A parcel takes its time to whoever has the landing; the ticket is told here, if this still
  // lives.
  void Send(const common::v1::Destination& to, ParcelLabel label,
            std::vector<ConstTensorView> content, std::function<void(const absl::Status&)> ticket);

  void Dial();
  void Beat();
  void Hang();
  void Order(const control::v1::Order& /*order*/) override {}
  void End(const absl::Status& /*status*/) override { stream_ = 0; }

  SimulatedFleet& fleet_;
  const std::string id_;
  const std::vector<common::v1::Role> roles_;
  int life_ = 0;
  Incarnation incarnation_ = {};
  bool is_up_ = false, is_draining_ = false;
  absl::Time thaw_;
  std::unique_ptr<SimulatedEngine> engine_;
  std::unique_ptr<Landings> landings_;
  std::unique_ptr<OwnLandings> own_landings_;
  std::set<std::pair<std::string, std::string>> media_;  // scope, digest
  std::map<common::v1::Role, int> running_;
  Calls calls_;
  Fleet::StreamId stream_ = 0;
  uint64_t opened_ = 0;

 private:
  struct Travelling;
  void Arrive(const std::shared_ptr<Travelling>& parcel);
  void EndPlacing(const std::shared_ptr<Travelling>& parcel, Process& there);
  void TellTicket(const std::shared_ptr<Travelling>& parcel, const absl::Status& status);

  std::vector<std::shared_ptr<Travelling>> placing_;  // here
};

// A call that a process works for.
class SimulatedFleet::Call : public Landing, public std::enable_shared_from_this<Call> {
 public:
  Call(SimulatedFleet& fleet, common::v1::Role role)
      : fleet_(fleet), role_(role), number_(++fleet.opened_) {}

  // The process has been handed the call.
  virtual void Arrive() = 0;
  // It hears that nobody waits any more.
  virtual void GiveUp() { Close(); }
  // What is told of a process that is gone.
  virtual void TellEnd(const absl::Status& status) = 0;

  // Nothing is left of it.
  void Close() {
    CloseSlot();
    if (process_ == nullptr) return;
    Process& process = *std::exchange(process_, nullptr);
    --process.running_[role_];
    process.calls_.erase(shared_from_this());
  }

  common::v1::Landing GrantLanding(int64_t held);
  // Parcels that are being placed keep their places, and this, until they are there.
  void CloseSlot() {
    if (slot_ == 0) return;
    const std::shared_ptr<Call> self = shared_from_this();
    process_->landings_->Close(std::exchange(slot_, 0), [self] { self->OnSlotClosed(); });
  }
  virtual void OnSlotClosed() {}

  // Whether the process still works for this.
  template <typename Do>
  void Later(absl::Duration delay, Do call) {
    if (process_ == nullptr) return;
    process_->After(delay, [self = shared_from_this(), call] {
      if (self->process_ != nullptr) call();
    });
  }

  SimulatedFleet& fleet_;
  const common::v1::Role role_;
  const int64_t number_;
  Process* process_ = nullptr;  // null: not open
  bool is_given_up_ = false;
  uint64_t slot_ = 0;  // 0: not open
};

template <typename Response>
class SimulatedFleet::CallOf : public Call {
 public:
  CallOf(SimulatedFleet& fleet, common::v1::Role role, Told<Response> told)
      : Call(fleet, role), told_(std::move(told)) {}

  void Tell(std::variant<Response, absl::Status> what) {
    // Messages of one call stay in order.
    arrival_ = std::max(fleet_.loop_.Now() + fleet_.Between(0.1, 3), arrival_);
    fleet_.After(arrival_ - fleet_.loop_.Now(),
                 [self = this->shared_from_this(), this, what = std::move(what)] {
                   if (!is_given_up_) told_(what);
                 });
  }
  void TellEnd(const absl::Status& status) override { Tell(status); }
  void End(const absl::Status& status) {
    Tell(status);
    Close();
  }
  // It is not even begun.
  bool IsRefused() {
    if (process_->is_draining_) {
      End(WithReason(absl::FailedPreconditionError("draining"), "DRAINING"));
      return true;
    }
    if (fleet_.Happens(fleet_.options_.refuses)) {
      End(absl::ResourceExhaustedError("no room now"));
      return true;
    }
    if (!fleet_.Happens(fleet_.options_.fails)) return false;
    End(absl::InternalError("something went wrong"));
    return true;
  }
  // Some calls are landings.
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& /*label*/) override {
    return absl::InvalidArgumentError("nothing can land here");
  }
  void Landed(const ParcelLabel& /*label*/, const absl::Status& /*status*/) override {}

 private:
  const Told<Response> told_;
  absl::Time arrival_ = absl::InfinitePast();
};

}  // namespace minicpmv::router
