#include "services/router/fleet.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "services/common/durations.h"
#include "services/common/fleet_names.h"
#include "services/common/status_proto.h"
#include "services/router/worker_claims.h"

namespace minicpmv::router {
namespace {

using common::v1::Role;
using control::v1::WorkerState;

constexpr size_t kMaxMembers = 4096;
constexpr absl::Duration kLostAreShownFor = absl::Hours(1);

// What Report has checked.
absl::Duration Checked(const google::protobuf::Duration& duration) {
  return DurationFrom(duration).value_or(absl::ZeroDuration());
}

// How long a step may take that was predicted to take so long, where nobody says otherwise.
absl::Duration LimitOf(absl::Duration predicted) { return 4 * predicted + absl::Seconds(5); }

bool Plays(const control::v1::WorkerHello& hello, Role role) {
  return std::find(hello.roles().begin(), hello.roles().end(), role) != hello.roles().end();
}

}  // namespace

Fleet::Fleet(FleetOptions options, Loop& loop)
    : options_(std::move(options)),
      is_model_given_(!options_.model_fingerprint.empty()),
      is_layout_given_(!options_.layout_fingerprint.empty()),
      loop_(loop) {
  for (const Role role : kRoles) missing_since_[role] = loop_.Now();
  Watch();
}

Fleet::~Fleet() = default;

absl::StatusOr<Fleet::StreamId> Fleet::Join(const control::v1::WorkerHello& hello,
                                            FleetStream& stream) {
  RETURN_IF_ERROR(CheckHello(hello));
  const bool is_deserted =
      std::all_of(members_.begin(), members_.end(), [](const auto& m) { return m.second.is_lost; });
  const auto agree = [&](std::string& ours, bool is_given, const std::string& theirs,
                         absl::string_view what) {
    if (ours.empty() || (is_deserted && !is_given)) ours = theirs;
    if (ours == theirs) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("worker ", hello.worker_id(), " serves another ", what, " than this fleet"));
  };
  std::string model = options_.model_fingerprint, layout = options_.layout_fingerprint;
  RETURN_IF_ERROR(agree(model, is_model_given_, hello.model().model_fingerprint(), "model"));
  RETURN_IF_ERROR(agree(layout, is_layout_given_, hello.model().layout_fingerprint(),
                        "layout of pages and rows"));
  const auto found = members_.find(hello.worker_id());
  if (found == members_.end() && members_.size() >= kMaxMembers) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the fleet has ", kMaxMembers, " workers, which is all it takes"));
  }
  options_.model_fingerprint = std::move(model);
  options_.layout_fingerprint = std::move(layout);

  Member member;
  member.hello = hello;
  member.stream = &stream;
  member.id = ++last_stream_;
  member.last_report = loop_.Now();
  member.load.set_state(control::v1::WORKER_STATE_LOADING);
  FleetStream* const older = found == members_.end() ? nullptr : found->second.stream;
  members_.insert_or_assign(hello.worker_id(), std::move(member));
  // Calls that an earlier life had taken are lost. A life that has only dialled again knows its
  // own, though its count has begun anew.
  for (Opened::Entry& entry : opened_) {
    if (Find(entry.worker) == &members_.find(hello.worker_id())->second) entry.number = 0;
  }
  TellLostSoon();
  MembersChanged();
  if (older != nullptr) {
    older->End(absl::AbortedError(
        absl::StrCat("worker ", hello.worker_id(), " has opened a newer stream")));
  }
  return last_stream_;
}

absl::Status Fleet::Report(StreamId stream, const control::v1::Heartbeat& heartbeat) {
  Member* const member = Current(stream);
  if (member == nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(CheckLoad(heartbeat.load(), member->hello));
  const bool was_ready = IsReady(*member);
  member->load = heartbeat.load();
  ++member->reports;
  member->full.clear();
  member->ended.clear();
  member->last_report = loop_.Now();
  if (IsStalled(*member)) {
    Lose(*member);
  } else {
    member->is_lost = false;
  }
  if (!was_ready && IsReady(*member)) Introduce(*member);
  MembersChanged();
  return absl::OkStatus();
}

void Fleet::Leave(StreamId stream) {
  Member* const member = Current(stream);
  if (member == nullptr) return;
  member->stream = nullptr;
  Lose(*member);
  MembersChanged();
}

absl::Duration Fleet::heartbeat_interval() const {
  const absl::Duration stall = options_.stall_after.value_or(absl::Seconds(4));
  return std::clamp(stall / 5, absl::Milliseconds(20), absl::Milliseconds(500));
}

control::v1::ListWorkersResponse Fleet::List(const control::v1::ListWorkersRequest& request) const {
  control::v1::ListWorkersResponse response;
  for (const auto& [id, member] : members_) {
    const bool is_wanted =
        request.roles().empty() ||
        std::any_of(request.roles().begin(), request.roles().end(),
                    [&hello = member.hello](int role) { return Plays(hello, Role(role)); });
    if (!is_wanted) continue;
    control::v1::FleetMember& shown = *response.add_workers();
    *shown.mutable_hello() = member.hello;
    *shown.mutable_load() = member.load;
    if (member.is_lost) shown.mutable_load()->set_state(control::v1::WORKER_STATE_LOST);
    *shown.mutable_age() = ToProto(loop_.Now() - member.last_report);
  }
  return response;
}

absl::Status Fleet::Drain(absl::string_view worker_id, std::optional<absl::Duration> grace) {
  const auto found = members_.find(worker_id);
  if (found == members_.end()) {
    return absl::NotFoundError(absl::StrCat("the fleet has no worker ", worker_id));
  }
  Member& member = found->second;
  if (member.stream == nullptr) {
    return absl::UnavailableError(absl::StrCat("worker ", worker_id, " is lost"));
  }
  control::v1::Order order;
  control::v1::DrainOrder& drain = *order.mutable_drain();
  if (grace.has_value()) *drain.mutable_grace() = ToProto(*grace);
  member.stream->Order(order);
  // It will say so itself; until then nothing is placed there any more.
  member.load.set_state(control::v1::WORKER_STATE_DRAINING);
  MembersChanged();
  return absl::OkStatus();
}

const FleetSnapshot& Fleet::Snapshot() const {
  if (!snapshot_) snapshot_ = TakeSnapshot();
  return *snapshot_;
}

FleetSnapshot Fleet::TakeSnapshot() const {
  FleetSnapshot snapshot;
  std::map<absl::string_view, size_t> places;
  for (const auto& [id, member] : members_) {
    if (!IsReady(member)) continue;
    places[id] = snapshot.workers.size();
    WorkerView& view = snapshot.workers.emplace_back();
    view.name = {id, member.hello.address(), member.hello.incarnation()};
    view.numerics_class = member.hello.model().numerics_class();
    view.max_sequence_tokens = member.hello.capacity().max_sequence_tokens();
    view.page_tokens = std::max<uint32_t>(member.hello.capacity().page_tokens(), 1);
    view.pages = int64_t{member.load.pages().free()} + member.load.pages().cached();
    view.all_pages = member.hello.capacity().pages();
    for (const int role : member.hello.roles()) {
      view.roles[Role(role)].is_full = member.full.contains(Role(role));
    }
    for (const control::v1::RoleLoad& load : member.load.roles()) {
      WorkerView::RoleView& role = view.roles[load.role()];
      role.calls = int64_t{load.running()} + load.waiting();
      role.outstanding = static_cast<int64_t>(load.outstanding());
      role.rate = load.rate();
    }
    for (const control::v1::LinkState& link : member.load.links()) {
      view.link_rates[link.peer_id()] = link.rate();
    }
  }
  std::map<const WorkerView::RoleView*, int64_t> seen;  // units of open calls that reports have
  std::vector<std::pair<WorkerView*, const Opened::Entry*>> unseen;
  for (const Opened::Entry& entry : opened_) {
    const auto place = places.find(entry.worker.id);
    if (place == places.end()) continue;
    WorkerView& view = snapshot.workers[place->second];
    if (view.name.incarnation != entry.worker.incarnation) continue;
    WorkerView::RoleView& role = view.roles[entry.role];
    ++role.own_calls;
    if (IsSeen(members_.find(entry.worker.id)->second, entry)) {
      seen[&role] += entry.work.units;
    } else {
      unseen.emplace_back(&view, &entry);
    }
  }
  for (const auto& [id, place] : places) {
    for (const auto& [played, ended] : members_.find(id)->second.ended) {
      WorkerView::RoleView& role = snapshot.workers[place].roles[played];
      TakeOff(ended, seen[&role], role);
    }
  }
  for (const auto& [view, entry] : unseen) {
    view->pages -= entry->work.pages;
    ++view->roles[entry->role].calls;
    view->roles[entry->role].outstanding += entry->work.units;
  }
  return snapshot;
}

void Fleet::TakeOff(const Ended& ended, int64_t still_open, WorkerView::RoleView& reported) {
  reported.calls = std::max<int64_t>(0, reported.calls - ended.calls);
  // Of what the worker had left to do, others may have asked for some. Ours was partly done: as
  // much of each call.
  const double ours = static_cast<double>(ended.units) + static_cast<double>(still_open);
  if (ours <= 0) return;
  const auto left = static_cast<double>(reported.outstanding);
  const double gone = static_cast<double>(ended.units) * std::min(1.0, left / ours);
  reported.outstanding = std::llround(std::max(0.0, left - gone));
}

std::optional<absl::Time> Fleet::MissingSince(Role role) const {
  const auto found = missing_since_.find(role);
  if (found == missing_since_.end()) return std::nullopt;
  return found->second;
}

std::unique_ptr<Fleet::Opened> Fleet::Open(const WorkerName& worker, Role role, const Work& work,
                                           std::function<void()> lost) {
  const auto found = members_.find(worker.id);
  Opened::Entry entry{worker, role, work, 0, 0, false, std::move(lost)};
  if (found != members_.end()) {
    entry.number = ++found->second.opened;
    entry.reports = found->second.reports;
  }
  opened_.push_back(std::move(entry));
  snapshot_.reset();
  if (const Member* const member = Find(worker); member == nullptr || member->is_lost) {
    TellLostSoon();
  }
  return std::unique_ptr<Opened>(new Opened(*this, std::prev(opened_.end())));
}

Fleet::Opened::~Opened() {
  Fleet& fleet = fleet_;
  fleet.NoteEnd(*entry_);
  fleet.opened_.erase(entry_);
  fleet.Changed();
}

void Fleet::NoteEnd(const Opened::Entry& entry) {
  const auto found = members_.find(entry.worker.id);
  if (found == members_.end() || Find(entry.worker) == nullptr) return;
  if (!IsSeen(found->second, entry)) return;
  Ended& ended = found->second.ended[entry.role];
  ++ended.calls;
  ended.units += entry.work.units;
}

void Fleet::NoteRefusal(const WorkerName& worker, Role role) {
  const auto found = members_.find(worker.id);
  if (found == members_.end()) return;
  found->second.full.insert(role);
  snapshot_.reset();
}

bool Fleet::IsUp(const WorkerName& worker) const {
  const Member* const member = Find(worker);
  return member != nullptr && !member->is_lost;
}

absl::Duration Fleet::Patience(const WorkerName& worker) const {
  const Member* const member = Find(worker);
  return member == nullptr ? absl::ZeroDuration() : StallOf(*member);
}

const Fleet::Member* Fleet::Find(const WorkerName& worker) const {
  const auto found = members_.find(worker.id);
  if (found == members_.end()) return nullptr;
  return found->second.hello.incarnation() == worker.incarnation ? &found->second : nullptr;
}

Fleet::Member* Fleet::Current(StreamId stream) {
  for (auto& [id, member] : members_) {
    if (member.id == stream && member.stream != nullptr) return &member;
  }
  return nullptr;
}

absl::Duration Fleet::StallOf(const Member& member) const {
  if (options_.stall_after.has_value()) return *options_.stall_after;
  absl::Duration longest;
  for (const control::v1::RoleLoad& role : member.load.roles()) {
    longest = std::max(longest, Checked(role.predicted_step()));
  }
  return LimitOf(longest);
}

bool Fleet::IsStalled(const Member& member) const {
  // A process that is still loading has much to do before it can speak again.
  const absl::Duration silence = loop_.Now() - member.last_report;
  const bool is_loading = member.load.state() == control::v1::WORKER_STATE_LOADING;
  if (!is_loading && silence > StallOf(member)) return true;
  for (const control::v1::RoleLoad& role : member.load.roles()) {
    if (!role.has_step_age()) continue;
    const absl::Duration predicted = Checked(role.predicted_step());
    const absl::Duration limit = options_.stall_after.has_value()
                                     ? std::max(*options_.stall_after, 4 * predicted)
                                     : LimitOf(predicted);
    if (Checked(role.step_age()) > limit) return true;
  }
  return false;
}

bool Fleet::IsReady(const Member& member) {
  return !member.is_lost && member.load.state() == control::v1::WORKER_STATE_READY;
}

bool Fleet::IsSeen(const Member& member, const Opened::Entry& entry) {
  // Should the two counts ever drift apart, the second report that was made since has seen it.
  return member.load.opened_calls() >= entry.number || member.reports >= entry.reports + 2;
}

void Fleet::Introduce(const Member& newcomer) {
  const auto meet = [](const Member& sender, const Member& receiver) {
    const bool is_needed = (Plays(sender.hello, common::v1::ROLE_VISION) &&
                            (Plays(receiver.hello, common::v1::ROLE_PREFILL) ||
                             Plays(receiver.hello, common::v1::ROLE_VISION))) ||
                           (Plays(sender.hello, common::v1::ROLE_PREFILL) &&
                            Plays(receiver.hello, common::v1::ROLE_DECODE));
    if (!is_needed) return;
    control::v1::Order order;
    order.mutable_meet()->set_worker_id(receiver.hello.worker_id());
    order.mutable_meet()->set_address(receiver.hello.address());
    sender.stream->Order(order);
  };
  for (const auto& [id, other] : members_) {
    if (&other == &newcomer || !IsReady(other)) continue;
    meet(newcomer, other);
    meet(other, newcomer);
  }
}

void Fleet::Lose(Member& member) {
  if (std::exchange(member.is_lost, true)) return;
  TellLostSoon();
}

void Fleet::Watch() {
  watch_ = loop_.At(loop_.Now() + heartbeat_interval() / 2, [this] {
    // Reports that came while this thread was busy have been posted already: they go first.
    check_ = loop_.At(loop_.Now(), [this] {
      bool is_changed = false;
      for (auto& [id, member] : members_) {
        if (member.is_lost || !IsStalled(member)) continue;
        Lose(member);
        is_changed = true;
      }
      Forget();
      if (is_changed) MembersChanged();
    });
    Watch();
  });
}

void Fleet::Forget() {
  const absl::Time oldest = loop_.Now() - kLostAreShownFor;
  for (auto next = members_.begin(); next != members_.end();) {
    const auto member = next++;
    if (member->second.stream == nullptr && member->second.last_report < oldest) {
      members_.erase(member);
    }
  }
}

void Fleet::TellLostSoon() {
  if (tell_lost_ == nullptr) tell_lost_ = loop_.At(loop_.Now(), [this] { TellLost(); });
}

void Fleet::TellLost() {
  tell_lost_ = nullptr;
  for (Opened::Entry& entry : opened_) {
    if (entry.is_told) continue;
    const Member* const member = Find(entry.worker);
    if (member != nullptr && !member->is_lost) continue;
    entry.is_told = true;
    entry.lost();
  }
}

void Fleet::Changed() {
  snapshot_.reset();
  if (changed_) changed_();
}

void Fleet::MembersChanged() {
  for (const Role role : kRoles) {
    const bool is_there = std::any_of(members_.begin(), members_.end(), [role](const auto& member) {
      return IsReady(member.second) && Plays(member.second.hello, role);
    });
    if (is_there) {
      missing_since_.erase(role);
    } else {
      missing_since_.emplace(role, loop_.Now());  // stays as it is where it is known
    }
  }
  Changed();
}

}  // namespace minicpmv::router
