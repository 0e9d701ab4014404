#include "tests/services/router/simulated_fleet.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/common/status_proto.h"
#include "services/router/stable_hash.h"

namespace minicpmv::router {
namespace {

constexpr int64_t kPage = 16;

std::string RandomBytes(std::mt19937_64& random, size_t size) {
  std::string bytes;
  while (bytes.size() < size) bytes.push_back(static_cast<char>(random()));
  return bytes;
}

}  // namespace

uint64_t FakeHistory(uint64_t history, uint32_t token) {
  return StableHash().Add(history).Add(uint64_t{token}).value();
}

uint32_t FakeToken(uint64_t history, uint64_t seed, const std::vector<int32_t>& stops,
                   uint32_t vocabulary) {
  const uint64_t draw = StableHash().Add(history).Add(seed).value();
  if (draw % 24 == 0) return static_cast<uint32_t>(stops.front());
  uint32_t token = static_cast<uint32_t>(draw >> 32) % vocabulary;
  while (std::find(stops.begin(), stops.end(), static_cast<int32_t>(token)) != stops.end()) {
    token = (token + 1) % vocabulary;
  }
  return token;
}

// By age: the order of things must not hang on addresses.
struct SimulatedFleet::ByAge {
  bool operator()(const std::shared_ptr<Call>& a, const std::shared_ptr<Call>& b) const;
};

// One process of a worker; `life` tells its lives apart.
class SimulatedFleet::Process final : public FleetStream {
 public:
  Process(SimulatedFleet& fleet, std::string id, std::vector<common::v1::Role> roles)
      : fleet_(fleet), id_(std::move(id)), roles_(std::move(roles)) {
    Boot();
  }

  void Boot() {
    ++life_;
    incarnation_ = RandomBytes(fleet_.random_, 16);
    is_up_ = true;
    is_draining_ = false;
    thaw_ = absl::InfinitePast();
    pages_ = fleet_.options_.pages;
    media_.clear();
  }

  // Does it when the process runs: not while it is frozen, and not in another life.
  void After(absl::Duration delay, std::function<void()> call) {
    const absl::Time at = std::max(fleet_.loop_.Now() + delay, thaw_);
    fleet_.After(at - fleet_.loop_.Now(), [this, life = life_, call = std::move(call)] {
      if (life != life_ || !is_up_) return;
      if (thaw_ > fleet_.loop_.Now()) return After(absl::ZeroDuration(), call);
      call();
    });
  }

  void Dial() {
    if (fleet_.fleet_ == nullptr || stream_ != 0) return;
    control::v1::WorkerHello hello;
    hello.set_worker_id(id_);
    hello.set_incarnation(incarnation_);
    hello.set_address(absl::StrCat("sim:", id_));
    for (const common::v1::Role role : roles_) hello.add_roles(role);
    hello.mutable_model()->set_model_fingerprint(fleet_.options_.model_fingerprint);
    hello.mutable_model()->set_layout_fingerprint(std::string(32, 'l'));
    hello.mutable_model()->set_numerics_class("sim");
    hello.mutable_capacity()->set_pages(static_cast<uint32_t>(fleet_.options_.pages));
    hello.mutable_capacity()->set_page_tokens(kPage);
    const absl::StatusOr<Fleet::StreamId> joined = fleet_.fleet_->Join(hello, *this);
    if (!joined.ok()) return fleet_.Complain(std::string(joined.status().message()));
    stream_ = *joined;
    opened_ = 0;
    Beat();
  }

  void Beat() {
    if (stream_ == 0 || fleet_.fleet_ == nullptr) return;
    control::v1::Heartbeat heartbeat;
    control::v1::WorkerLoad& load = *heartbeat.mutable_load();
    load.set_state(is_draining_ ? control::v1::WORKER_STATE_DRAINING
                                : control::v1::WORKER_STATE_READY);
    load.set_opened_calls(opened_);
    load.mutable_pages()->set_free(static_cast<uint32_t>(pages_));
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

  void Hang() {
    if (stream_ == 0) return;
    const Fleet::StreamId stream = std::exchange(stream_, 0);
    if (fleet_.fleet_ != nullptr) fleet_.fleet_->Leave(stream);
  }

  void Order(const control::v1::Order& /*order*/) override {}
  void End(const absl::Status& /*status*/) override { stream_ = 0; }

  SimulatedFleet& fleet_;
  const std::string id_;
  const std::vector<common::v1::Role> roles_;
  int life_ = 0;
  std::string incarnation_;
  bool is_up_ = false, is_draining_ = false;
  absl::Time thaw_;
  int64_t pages_ = 0;                                    // free
  std::set<std::pair<std::string, std::string>> media_;  // scope, digest
  std::map<common::v1::Role, int> running_;
  Calls calls_;
  Fleet::StreamId stream_ = 0;
  uint64_t opened_ = 0;
  uint64_t last_slot_ = 0;
};

// A call that a process works for.
class SimulatedFleet::Call : public std::enable_shared_from_this<Call> {
 public:
  Call(SimulatedFleet& fleet, common::v1::Role role)
      : fleet_(fleet), role_(role), number_(++fleet.opened_) {}
  virtual ~Call() = default;

  // The process has been handed the call.
  virtual void Arrive() = 0;
  // What is told of a process that is gone.
  virtual void TellEnd(const absl::Status& status) = 0;

  bool is_open() const { return process_ != nullptr; }

  // Lets go of all it holds.
  void Close() {
    if (process_ == nullptr) return;
    Process& process = *std::exchange(process_, nullptr);
    process.pages_ += pages_;
    --process.running_[role_];
    process.calls_.erase(shared_from_this());
  }

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
  int64_t pages_ = 0;
  uint64_t slot_ = 0;
};

bool SimulatedFleet::ByAge::operator()(const std::shared_ptr<Call>& a,
                                       const std::shared_ptr<Call>& b) const {
  return a->number_ < b->number_;
}

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
  common::v1::Landing GrantLanding(uint32_t held) {
    slot_ = ++process_->last_slot_;
    common::v1::Landing landing;
    landing.set_incarnation(process_->incarnation_);
    landing.set_slot(slot_);
    landing.set_held_tokens(held);
    return landing;
  }
  // RESOURCE_EXHAUSTED where there is none.
  bool TakePages(int64_t pages) {
    if (process_->pages_ < pages || fleet_.Happens(fleet_.options_.refuses)) {
      End(absl::ResourceExhaustedError("no pages now"));
      return false;
    }
    process_->pages_ -= pages;
    pages_ += pages;
    return true;
  }
  bool IsRefused() {
    if (process_->is_draining_) {
      End(WithReason(absl::FailedPreconditionError("draining"), "DRAINING"));
      return true;
    }
    if (!fleet_.Happens(fleet_.options_.fails)) return false;
    End(absl::InternalError("something went wrong"));
    return true;
  }

 private:
  const Told<Response> told_;
  absl::Time arrival_ = absl::InfinitePast();
};

class SimulatedFleet::DecodeCall final : public CallOf<decode::v1::DecodeSequenceResponse> {
 public:
  DecodeCall(SimulatedFleet& fleet, decode::v1::DecodeSequenceRequest request,
             Told<decode::v1::DecodeSequenceResponse> told)
      : CallOf(fleet, common::v1::ROLE_DECODE, std::move(told)), request_(std::move(request)) {}

  void Arrive() override {
    const common::v1::Prompt& prompt = request_.prompt();
    const int64_t tokens = prompt.tokens_size();
    new_tokens_ = static_cast<uint32_t>(tokens) - prompt.prompt_tokens();
    if (new_tokens_ >= request_.limits().max_new_tokens()) fleet_.Complain("no token is wanted");
    if (IsRefused() || !TakePages((tokens + kPage - 1) / kPage)) return;
    for (const uint32_t token : prompt.tokens()) history_ = FakeHistory(history_, token);
    const uint64_t luck = fleet_.random_() % 8;
    held_ = luck == 0 ? (tokens - 1) / kPage * kPage : luck == 1 ? tokens / 2 / kPage * kPage : 0;
    decode::v1::DecodeSequenceResponse response;
    *response.mutable_landing() = GrantLanding(static_cast<uint32_t>(held_));
    Tell(std::move(response));
    if (held_ + 1 >= tokens) Land();
  }

  // All pages but the last token's are here.
  void Land() {
    Later(fleet_.Between(5, 30), [this] { Step(); });
  }

  int64_t held() const { return held_; }

 private:
  void Step() {
    if (fleet_.Happens(fleet_.options_.preempts)) {
      return End(WithReason(absl::AbortedError("preempted"), "PREEMPTED"));
    }
    if (fleet_.Happens(fleet_.options_.fails / 20)) return End(absl::InternalError("a bad step"));
    const uint32_t token = FakeToken(history_, request_.sampling().seed(), fleet_.options_.stops,
                                     fleet_.options_.vocabulary);
    history_ = FakeHistory(history_, token);
    decode::v1::DecodeSequenceResponse response;
    response.mutable_tokens()->add_tokens(token);
    response.mutable_tokens()->set_first_index(new_tokens_++);
    Tell(response);
    const bool has_stopped = token == static_cast<uint32_t>(fleet_.options_.stops.front());
    if (!has_stopped && new_tokens_ < request_.limits().max_new_tokens()) return Land();
    decode::v1::DecodeSequenceResponse last;
    last.mutable_ending()->set_reason(has_stopped ? decode::v1::Ending::REASON_STOP
                                                  : decode::v1::Ending::REASON_LENGTH);
    last.mutable_ending()->set_new_tokens(new_tokens_);
    Tell(last);
    End(absl::OkStatus());
  }

  const decode::v1::DecodeSequenceRequest request_;
  uint64_t history_ = 0;
  uint32_t new_tokens_ = 0;
  int64_t held_ = 0;
};

class SimulatedFleet::PrefillCall final : public CallOf<prefill::v1::PrefillPromptResponse> {
 public:
  PrefillCall(SimulatedFleet& fleet, prefill::v1::PrefillPromptRequest request,
              Told<prefill::v1::PrefillPromptResponse> told)
      : CallOf(fleet, common::v1::ROLE_PREFILL, std::move(told)), request_(std::move(request)) {}

  void Arrive() override {
    const common::v1::Prompt& prompt = request_.prompt();
    const int64_t tokens = prompt.tokens_size();
    if (tokens < 2) fleet_.Complain("a prompt of one token needs no prefill");
    if (IsRefused() || !TakePages((tokens + kPage - 1) / kPage)) return;
    const uint64_t luck = fleet_.random_() % 4;
    const int64_t held =
        luck == 0 ? tokens * static_cast<int64_t>(fleet_.random_() % 8) / 8 / kPage * kPage : 0;
    for (int i = 0; i < prompt.spans_size(); ++i) {
      if (prompt.spans(i).first_token() + prompt.spans(i).rows() > held) missing_.insert(i);
    }
    prefill::v1::PrefillPromptResponse response;
    *response.mutable_landing() = GrantLanding(static_cast<uint32_t>(held));
    Tell(std::move(response));
    rest_ = tokens - held;
    ComputeIfReady();
  }

  void LandRows(int span) {
    if (missing_.erase(span) == 0) fleet_.Complain("rows land that were not missing");
    ComputeIfReady();
  }

 private:
  void ComputeIfReady() {
    if (!missing_.empty() || std::exchange(is_computing_, true)) return;
    Later(absl::Milliseconds(rest_ / 5) + fleet_.Between(1, 20), [this] { Push(); });
  }

  void Push() {
    if (fleet_.Happens(fleet_.options_.preempts)) {
      return End(WithReason(absl::AbortedError("preempted"), "PREEMPTED"));
    }
    const auto landing = [this]() -> std::shared_ptr<DecodeCall> {
      const Process* const there = fleet_.Find(request_.destination());
      if (there == nullptr) return nullptr;
      for (const std::shared_ptr<Call>& call : there->calls_) {
        if (call->slot_ == request_.destination().landing().slot()) {
          return std::dynamic_pointer_cast<DecodeCall>(call);
        }
      }
      return nullptr;
    }();
    if (landing == nullptr) return End(absl::UnavailableError("the destination is gone"));
    landing->Land();
    prefill::v1::PrefillPromptResponse response;
    response.mutable_done();
    Tell(std::move(response));
    End(absl::OkStatus());
  }

  const prefill::v1::PrefillPromptRequest request_;
  std::set<int> missing_;
  int64_t rest_ = 0;
  bool is_computing_ = false;
};

class SimulatedFleet::EncodeCall final : public CallOf<vision::v1::EncodeMediaResponse> {
 public:
  EncodeCall(SimulatedFleet& fleet, vision::v1::EncodeMediaRequest request,
             Told<vision::v1::EncodeMediaResponse> told)
      : CallOf(fleet, common::v1::ROLE_VISION, std::move(told)), request_(std::move(request)) {}

  void Arrive() override {
    if (request_.spans().empty()) fleet_.Complain("nothing is to be encoded");
    if (IsRefused()) return;
    if (fleet_.Happens(fleet_.options_.refuses)) {
      return End(absl::ResourceExhaustedError("enough to do"));
    }
    if (request_.has_held()) {
      const auto key = std::pair(request_.scope().cache_scope(), request_.media_digest());
      if (!process_->media_.contains(key)) return End(absl::NotFoundError("no such medium"));
    }
    vision::v1::EncodeMediaResponse response;
    *response.mutable_landing() = GrantLanding(0);
    Tell(std::move(response));
    if (request_.has_held()) Later(fleet_.Between(1, 20), [this] { SendPixels(); });
  }

  void LandPixels() {
    Later(fleet_.Between(1, 20), [this] { EncodeNext(0); });
  }

 private:
  void SendPixels() {
    for (const vision::v1::PixelHelper& helper : request_.held().helpers()) {
      const Process* const there = fleet_.Find(helper.destination());
      std::shared_ptr<EncodeCall> landing;
      if (there != nullptr) {
        for (const std::shared_ptr<Call>& call : there->calls_) {
          if (call->slot_ != helper.destination().landing().slot()) continue;
          landing = std::dynamic_pointer_cast<EncodeCall>(call);
        }
      }
      if (landing == nullptr) return End(absl::UnavailableError("a helper is gone"));
      landing->LandPixels();
    }
    EncodeNext(0);
  }

  void EncodeNext(int next) {
    if (next == request_.spans_size()) {
      vision::v1::EncodeMediaResponse response;
      response.mutable_done();
      Tell(std::move(response));
      return End(absl::OkStatus());
    }
    Later(fleet_.Between(5, 40), [this, next] {
      const Process* const there = fleet_.Find(request_.destination());
      std::shared_ptr<PrefillCall> landing;
      if (there != nullptr) {
        for (const std::shared_ptr<Call>& call : there->calls_) {
          if (call->slot_ != request_.destination().landing().slot()) continue;
          landing = std::dynamic_pointer_cast<PrefillCall>(call);
        }
      }
      if (landing == nullptr) return End(absl::UnavailableError("the destination is gone"));
      vision::v1::EncodeMediaResponse response;
      response.mutable_slice()->set_span_index(request_.spans(next).index());
      response.mutable_slice()->set_step(vision::v1::SliceProgress::STEP_MADE_ROWS);
      Tell(std::move(response));
      landing->LandRows(static_cast<int>(request_.spans(next).index()));
      EncodeNext(next + 1);
    });
  }

  const vision::v1::EncodeMediaRequest request_;
};

// The router's end of a call.
class SimulatedFleet::OpenCall final : public Open {
 public:
  explicit OpenCall(std::shared_ptr<Call> call) : call_(std::move(call)) {}
  ~OpenCall() override {
    call_->is_given_up_ = true;
    // The process hears of it a little later, and when it runs.
    if (call_->process_ != nullptr) {
      const std::shared_ptr<Call> call = call_;
      call->process_->After(call->fleet_.Between(0.1, 3), [call] { call->Close(); });
    }
  }

 private:
  const std::shared_ptr<Call> call_;
};

SimulatedFleet::SimulatedFleet(Options options, VirtualLoop& loop, uint64_t seed)
    : options_(std::move(options)), loop_(loop), random_(seed) {
  for (int i = 0; i < options_.of_each_role; ++i) {
    for (const auto& [role, name] : {std::pair(common::v1::ROLE_VISION, "vision"),
                                     std::pair(common::v1::ROLE_PREFILL, "prefill"),
                                     std::pair(common::v1::ROLE_DECODE, "decode")}) {
      processes_.push_back(
          std::make_unique<Process>(*this, absl::StrCat(name, i), std::vector{role}));
    }
  }
  for (int i = 0; i < options_.of_all_roles; ++i) {
    processes_.push_back(std::make_unique<Process>(
        *this, absl::StrCat("all", i),
        std::vector{common::v1::ROLE_VISION, common::v1::ROLE_PREFILL, common::v1::ROLE_DECODE}));
  }
}

SimulatedFleet::~SimulatedFleet() {
  for (const std::unique_ptr<Process>& process : processes_) process->calls_.clear();
}

void SimulatedFleet::Join(Fleet& fleet) {
  fleet_ = &fleet;
  for (const std::unique_ptr<Process>& process : processes_) process->Dial();
}

void SimulatedFleet::Leave() { fleet_ = nullptr; }

void SimulatedFleet::Kill() {
  Process& process = Any();
  if (!process.is_up_) return;
  process.is_up_ = false;
  process.running_.clear();
  const absl::Duration noticed = Between(1, 20);
  const Calls calls = std::exchange(process.calls_, {});
  for (const std::shared_ptr<Call>& call : calls) {
    call->process_ = nullptr;
    After(noticed, [call] { call->TellEnd(absl::UnavailableError("connection reset")); });
  }
  After(Between(1, 20), [&process] { process.Hang(); });
  After(Between(500, 3000), [this, &process] {
    process.Boot();
    After(Between(1, 500), [&process] { process.Dial(); });
  });
}

void SimulatedFleet::Freeze(absl::Duration time) {
  Process& process = Any();
  process.thaw_ = std::max(process.thaw_, loop_.Now() + time);
}

void SimulatedFleet::Drain() {
  Process& process = Any();
  if (!process.is_up_ || process.is_draining_) return;
  process.is_draining_ = true;
  process.Beat();
  process.After(Between(10, 2000), [this, &process] {
    const Calls calls = process.calls_;
    for (const std::shared_ptr<Call>& call : calls) {
      call->TellEnd(WithReason(absl::AbortedError("shut down"), "DRAINING"));
      call->Close();
    }
    process.is_up_ = false;
    process.Hang();
    After(Between(100, 1000), [&process] {
      process.Boot();
      process.Dial();
    });
  });
}

void SimulatedFleet::BreakStream() {
  Process& process = Any();
  if (!process.is_up_) return;
  // Half of the time the router has not noticed when the worker dials again.
  if (Happens(0.5)) process.Hang();
  process.stream_ = 0;
  process.After(Between(1, 300), [&process] { process.Dial(); });
}

void SimulatedFleet::Calm() {
  is_calm_ = true;
  for (const std::unique_ptr<Process>& process : processes_) process->thaw_ = loop_.Now();
}

int64_t SimulatedFleet::open_calls() const {
  int64_t calls = 0;
  for (const std::unique_ptr<Process>& process : processes_) {
    calls += static_cast<int64_t>(process->calls_.size());
  }
  return calls;
}

int64_t SimulatedFleet::held_pages() const {
  int64_t pages = 0;
  for (const std::unique_ptr<Process>& process : processes_) {
    pages += options_.pages - process->pages_;
  }
  return pages;
}

std::unique_ptr<Open> SimulatedFleet::PutMedia(const WorkerName& worker,
                                               const TraceContext& /*work*/,
                                               const common::v1::RequestScope& scope,
                                               const std::string& digest,
                                               std::shared_ptr<const std::string> /*bytes*/,
                                               Told<common::v1::MediaInfo> told) {
  class PutCall final : public CallOf<common::v1::MediaInfo> {
   public:
    PutCall(SimulatedFleet& fleet, std::string scope, std::string digest,
            Told<common::v1::MediaInfo> told)
        : CallOf(fleet, common::v1::ROLE_VISION, std::move(told)),
          scope_(std::move(scope)),
          digest_(std::move(digest)) {}
    void Arrive() override {
      if (IsRefused()) return;
      if (fleet_.Happens(fleet_.options_.refuses)) {
        return End(absl::ResourceExhaustedError("no room now"));
      }
      Later(fleet_.Between(1, 50), [this] {
        process_->media_.emplace(scope_, digest_);
        if (fleet_.Happens(fleet_.options_.forgets_media)) process_->media_.clear();
        Tell(fleet_.options_.media(digest_));
        End(absl::OkStatus());
      });
    }

   private:
    const std::string scope_, digest_;
  };
  return Begin(worker,
               std::make_shared<PutCall>(*this, scope.cache_scope(), digest, std::move(told)));
}

std::unique_ptr<Open> SimulatedFleet::EncodeMedia(const WorkerName& worker,
                                                  const TraceContext& /*work*/,
                                                  vision::v1::EncodeMediaRequest request,
                                                  Told<vision::v1::EncodeMediaResponse> told) {
  return Begin(worker, std::make_shared<EncodeCall>(*this, std::move(request), std::move(told)));
}

std::unique_ptr<Open> SimulatedFleet::PrefillPrompt(const WorkerName& worker,
                                                    const TraceContext& /*work*/,
                                                    prefill::v1::PrefillPromptRequest request,
                                                    Told<prefill::v1::PrefillPromptResponse> told) {
  return Begin(worker, std::make_shared<PrefillCall>(*this, std::move(request), std::move(told)));
}

std::unique_ptr<Open> SimulatedFleet::DecodeSequence(
    const WorkerName& worker, const TraceContext& /*work*/,
    decode::v1::DecodeSequenceRequest request, Told<decode::v1::DecodeSequenceResponse> told) {
  return Begin(worker, std::make_shared<DecodeCall>(*this, std::move(request), std::move(told)));
}

SimulatedFleet::Process* SimulatedFleet::Find(const WorkerName& worker) {
  for (const std::unique_ptr<Process>& process : processes_) {
    if (process->id_ == worker.id && process->is_up_) return process.get();
  }
  return nullptr;
}

SimulatedFleet::Process* SimulatedFleet::Find(const common::v1::Destination& destination) {
  Process* const process = Find(WorkerName{destination.worker_id(), "", ""});
  if (process == nullptr || process->incarnation_ != destination.landing().incarnation()) {
    return nullptr;
  }
  return process;
}

SimulatedFleet::Process& SimulatedFleet::Any() {
  return *processes_[random_() % processes_.size()];
}

std::unique_ptr<Open> SimulatedFleet::Begin(const WorkerName& worker, std::shared_ptr<Call> call) {
  Process* const process = Find(worker);
  if (process == nullptr) {
    After(Between(0.1, 3), [call] { call->TellEnd(absl::UnavailableError("refused")); });
    return std::make_unique<OpenCall>(std::move(call));
  }
  // A frozen process's kernel takes the connection.
  call->process_ = process;
  process->calls_.insert(call);
  ++process->running_[call->role_];
  process->After(Between(0.1, 3), [process, call] {
    ++process->opened_;
    if (call->process_ != nullptr && !call->is_given_up_) call->Arrive();
  });
  return std::make_unique<OpenCall>(std::move(call));
}

void SimulatedFleet::After(absl::Duration delay, std::function<void()> call) {
  const uint64_t alarm = ++last_alarm_;
  alarms_[alarm] = loop_.At(loop_.Now() + delay, [this, alarm, call = std::move(call)] {
    const std::unique_ptr<Loop::Alarm> mine = std::move(alarms_.extract(alarm).mapped());
    call();
  });
}

absl::Duration SimulatedFleet::Between(double least_ms, double most_ms) {
  const double part = static_cast<double>(random_() >> 11) / static_cast<double>(1ULL << 53);
  return absl::Milliseconds(least_ms + part * (most_ms - least_ms));
}

bool SimulatedFleet::Happens(double chance) {
  if (is_calm_) return false;
  return static_cast<double>(random_() >> 11) < chance * static_cast<double>(1ULL << 53);
}

void SimulatedFleet::Complain(std::string words) {
  if (complaints_.size() < 10) complaints_.push_back(std::move(words));
}

}  // namespace minicpmv::router
