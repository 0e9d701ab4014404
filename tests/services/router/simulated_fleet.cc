#include "tests/services/router/simulated_fleet.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/common/status_proto.h"
#include "tests/services/router/simulated_calls.h"

namespace minicpmv::router {

// The router's end of a call.
class SimulatedFleet::OpenCall final : public Open {
 public:
  explicit OpenCall(std::shared_ptr<Call> call) : call_(std::move(call)) {}
  ~OpenCall() override {
    call_->is_given_up_ = true;
    // The process hears of it a little later, and when it runs.
    if (call_->process_ != nullptr) {
      const std::shared_ptr<Call> call = call_;
      call->process_->After(call->fleet_.Between(0.1, 3), [call] {
        if (call->process_ != nullptr) call->GiveUp();
      });
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
  for (const std::unique_ptr<Process>& process : processes_) process->Die();
}

void SimulatedFleet::Join(Fleet& fleet) {
  fleet_ = &fleet;
  for (const std::unique_ptr<Process>& process : processes_) process->Dial();
}

void SimulatedFleet::Leave() { fleet_ = nullptr; }

void SimulatedFleet::Kill() { Kill(Any()); }

void SimulatedFleet::BreakDevice() {
  Process& process = Any();
  if (!process.is_up_) return;
  process.engine_->Break();
  process.After(Between(10, 200), [this, &process] { Kill(process); });
}

void SimulatedFleet::Kill(Process& process) {
  if (!process.is_up_) return;
  const absl::Duration noticed = Between(1, 20);
  for (const std::shared_ptr<Call>& call : process.Die()) {
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
    for (const std::shared_ptr<Call>& call : process.Die()) {
      call->TellEnd(WithReason(absl::AbortedError("shut down"), "DRAINING"));
    }
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

void SimulatedFleet::Press() {
  Process& process =
      **std::max_element(processes_.begin(), processes_.end(), [](const auto& a, const auto& b) {
        return a->running_[common::v1::ROLE_DECODE] < b->running_[common::v1::ROLE_DECODE];
      });
  if (!process.is_up_) return;
  // Each is admitted with one page, with one more left for it, and comes to want a third.
  for (int64_t left = options_.pages / 2; left > 0; --left) {
    process.engine_->SubmitOlder(kPageSize, 2 * kPageSize + static_cast<int64_t>(random_() % 8));
  }
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

SimulatedFleet::Held SimulatedFleet::held() const {
  Held held;
  for (const std::unique_ptr<Process>& process : processes_) {
    if (!process->is_up_) continue;
    held.pages += process->engine_->held_pages();
    held.sequences += process->engine_->sequences();
    held.landings += process->engine_->landings() + process->landings_->open();
  }
  return held;
}

std::unique_ptr<Open> SimulatedFleet::PutMedia(const WorkerName& worker,
                                               const TraceContext& /*work*/,
                                               const common::v1::RequestScope& scope,
                                               const std::string& digest,
                                               std::shared_ptr<const std::string> /*bytes*/,
                                               Told<common::v1::MediaInfo> told) {
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
