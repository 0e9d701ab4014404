#include "tests/services/router/simulated_process.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "services/common/incarnation.h"

namespace minicpmv::router {

bool SimulatedFleet::ByAge::operator()(const std::shared_ptr<Call>& a,
                                       const std::shared_ptr<Call>& b) const {
  return a->number_ < b->number_;
}

struct SimulatedFleet::Process::Travelling {
  std::string to;  // the worker
  ParcelLabel label;
  std::vector<ConstTensorView> content;
  std::function<void(const absl::Status&)> ticket;
  std::vector<TensorView> places;
};

SimulatedFleet::Process::Process(SimulatedFleet& fleet, std::string id,
                                 std::vector<common::v1::Role> roles)
    : fleet_(fleet), id_(std::move(id)), roles_(std::move(roles)) {
  Boot();
}

void SimulatedFleet::Process::Boot() {
  ++life_;
  for (uint8_t& byte : incarnation_) byte = static_cast<uint8_t>(fleet_.random_());
  is_up_ = true;
  is_draining_ = false;
  thaw_ = absl::InfinitePast();
  media_.clear();
  landings_ = std::make_unique<Landings>(incarnation_);
  own_landings_ = std::make_unique<OwnLandings>();
  SimulatedEngine::Options options;
  options.pages = fleet_.options_.pages;
  options.stops = fleet_.options_.stops;
  options.vocabulary = fleet_.options_.vocabulary;
  options.scheduler.depth = 1 + static_cast<int>(fleet_.random_() % 2);
  options.scheduler.chunk = 64 << fleet_.random_() % 3;
  options.scheduler.headroom = fleet_.random_() % 3 * 16;
  options.step_time = [this](const StepSize& size) {
    return fleet_.Between(2, 10) + absl::Microseconds(30 * size.rows);
  };
  options.makes_no_number = [this] { return fleet_.Happens(fleet_.options_.fails / 20); };
  options.after = [this](absl::Duration delay, std::function<void()> call) {
    After(delay, std::move(call));
  };
  engine_ = std::make_unique<SimulatedEngine>(std::move(options));
}

SimulatedFleet::Calls SimulatedFleet::Process::Die() {
  if (!is_up_) return {};
  is_up_ = false;
  running_.clear();
  Calls calls = std::exchange(calls_, {});
  for (const std::shared_ptr<Call>& call : calls) call->CloseSlot();
  for (const std::shared_ptr<Travelling>& parcel : std::exchange(placing_, {})) {
    landings_->Landed(parcel->label, absl::UnavailableError("the process has died"));
  }
  for (const std::shared_ptr<Call>& call : calls) call->process_ = nullptr;
  own_landings_ = nullptr;
  landings_ = nullptr;
  engine_ = nullptr;
  return calls;
}

void SimulatedFleet::Process::After(absl::Duration delay, std::function<void()> call) {
  const absl::Time at = std::max(fleet_.loop_.Now() + delay, thaw_);
  fleet_.After(at - fleet_.loop_.Now(), [this, life = life_, call = std::move(call)] {
    if (life != life_ || !is_up_) return;
    if (thaw_ > fleet_.loop_.Now()) return After(absl::ZeroDuration(), call);
    call();
  });
}

void SimulatedFleet::Process::Send(const common::v1::Destination& to, ParcelLabel label,
                                   std::vector<ConstTensorView> content,
                                   std::function<void(const absl::Status&)> ticket) {
  label.landing = {*IncarnationFrom(to.landing().incarnation()), to.landing().slot()};
  for (const ConstTensorView& view : content) label.bytes += view.bytes();
  const auto parcel = std::make_shared<Travelling>();
  *parcel = {to.worker_id(), label, std::move(content), std::move(ticket), {}};
  After(fleet_.Between(0.1, 5), [this, parcel] { Arrive(parcel); });
}

void SimulatedFleet::Process::Arrive(const std::shared_ptr<Travelling>& parcel) {
  Process* const there = fleet_.Find(WorkerName{parcel->to, "", ""});
  if (there == nullptr) return TellTicket(parcel, absl::UnavailableError("nobody is there"));
  if (there->thaw_ > fleet_.loop_.Now()) {
    return After(there->thaw_ - fleet_.loop_.Now(), [this, parcel] { Arrive(parcel); });
  }
  if (fleet_.Happens(fleet_.options_.fails / 10)) {
    return TellTicket(parcel, absl::UnavailableError("the link broke"));
  }
  absl::StatusOr<std::vector<TensorView>> places = there->landings_->Place(parcel->label);
  if (!places.ok()) {
    if (!absl::IsAborted(places.status())) {
      fleet_.Complain(std::string(places.status().message()));
    }
    return TellTicket(parcel, places.status());
  }
  parcel->places = *std::move(places);
  there->placing_.push_back(parcel);
  // Long enough for its places to belong to somebody else if they were not kept.
  const double most_ms = fleet_.Happens(0.1) ? 60 : 2;
  fleet_.After(fleet_.Between(0.1, most_ms), [this, life = life_, parcel, there] {
    if (is_up_ && life == life_) return EndPlacing(parcel, *there);
    if (std::erase(there->placing_, parcel) == 0) return;
    there->landings_->Landed(parcel->label, absl::UnavailableError("the link broke"));
  });
}

void SimulatedFleet::Process::EndPlacing(const std::shared_ptr<Travelling>& parcel,
                                         Process& there) {
  if (std::erase(there.placing_, parcel) == 0) {
    return TellTicket(parcel, absl::UnavailableError("it has died"));
  }
  for (size_t i = 0; i < parcel->places.size(); ++i) {
    std::memcpy(parcel->places[i].data, parcel->content[i].data, parcel->places[i].bytes());
  }
  there.landings_->Landed(parcel->label, absl::OkStatus());
  TellTicket(parcel, absl::OkStatus());
}

void SimulatedFleet::Process::TellTicket(const std::shared_ptr<Travelling>& parcel,
                                         const absl::Status& status) {
  After(fleet_.Between(0.1, 2), [parcel, status] { parcel->ticket(status); });
}

void SimulatedFleet::Process::Dial() {
  if (!is_up_ || fleet_.fleet_ == nullptr || stream_ != 0) return;
  control::v1::WorkerHello hello;
  hello.set_worker_id(id_);
  hello.set_incarnation(BytesOf(incarnation_));
  hello.set_address(absl::StrCat("sim:", id_));
  for (const common::v1::Role role : roles_) hello.add_roles(role);
  hello.mutable_model()->set_model_fingerprint(fleet_.options_.model_fingerprint);
  hello.mutable_model()->set_layout_fingerprint(std::string(32, 'l'));
  hello.mutable_model()->set_numerics_class("sim");
  hello.mutable_capacity()->set_pages(static_cast<uint32_t>(fleet_.options_.pages));
  hello.mutable_capacity()->set_page_tokens(kPageSize);
  const absl::StatusOr<Fleet::StreamId> joined = fleet_.fleet_->Join(hello, *this);
  if (!joined.ok()) return fleet_.Complain(std::string(joined.status().message()));
  stream_ = *joined;
  opened_ = 0;
  Beat();
}

void SimulatedFleet::Process::Beat() {
  if (stream_ == 0 || fleet_.fleet_ == nullptr) return;
  control::v1::Heartbeat heartbeat;
  control::v1::WorkerLoad& load = *heartbeat.mutable_load();
  load.set_state(is_draining_ ? control::v1::WORKER_STATE_DRAINING
                              : control::v1::WORKER_STATE_READY);
  load.set_opened_calls(opened_);
  const PagePool& pool = engine_->pool();
  load.mutable_pages()->set_free(static_cast<uint32_t>(pool.free_pages() + pool.idle_pages()));
  for (const common::v1::Role role : roles_) {
    control::v1::RoleLoad& part = *load.add_roles();
    part.set_role(role);
    part.set_running(static_cast<uint32_t>(running_[role]));
    part.set_rate(role == common::v1::ROLE_PREFILL ? 5000 : 50);
    if (role == common::v1::ROLE_VISION) part.set_outstanding(running_[role]);
    if (role == common::v1::ROLE_PREFILL) part.set_outstanding(100 * running_[role]);
  }
  const absl::Status reported = fleet_.fleet_->Report(stream_, heartbeat);
  if (!reported.ok()) fleet_.Complain(std::string(reported.message()));
  After(fleet_.fleet_->heartbeat_interval(), [this, stream = stream_] {
    if (stream == stream_) Beat();
  });
}

void SimulatedFleet::Process::Hang() {
  if (stream_ == 0) return;
  const Fleet::StreamId stream = std::exchange(stream_, 0);
  if (fleet_.fleet_ != nullptr) fleet_.fleet_->Leave(stream);
}

common::v1::Landing SimulatedFleet::Call::GrantLanding(int64_t held) {
  slot_ = process_->landings_->Open(*this).slot;
  common::v1::Landing landing;
  landing.set_incarnation(BytesOf(process_->incarnation_));
  landing.set_slot(slot_);
  landing.set_held_tokens(static_cast<uint32_t>(held));
  return landing;
}

}  // namespace minicpmv::router
