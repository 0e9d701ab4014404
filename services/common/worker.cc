#include "services/common/worker.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "services/common/incarnation.h"
#include "services/common/status_proto.h"
#include "services/common/transfer_version.h"

namespace minicpmv {
namespace {

// Longer ones count as for ever; keeps sums of time within their type.
constexpr absl::Duration kLongestGrace = absl::Hours(24 * 365);
// Routers whose calls are counted; one that makes up names cannot fill our memory.
constexpr size_t kMaxRouters = 256;

WorkerOptions WithId(WorkerOptions options) {
  if (options.id.empty()) options.id = absl::StrCat("worker-", options.address);
  return options;
}

std::chrono::steady_clock::time_point After(absl::Duration grace) {
  return std::chrono::steady_clock::now() +
         absl::ToChronoNanoseconds(std::clamp(grace, absl::ZeroDuration(), kLongestGrace));
}

}  // namespace

Worker::Worker(WorkerOptions options, Metrics& metrics, const Clock& clock)
    : options_(WithId(std::move(options))),
      metrics_(metrics),
      clock_(clock),
      landings_(DrawIncarnation()) {}

Worker::~Worker() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    CHECK(calls_.empty()) << calls_.size() << " calls are open";
    is_ending_ = true;
  }
  changed_.notify_all();
  if (grace_.joinable()) grace_.join();
}

void Worker::SetLinks(Links& links) {
  CHECK(links_ == nullptr);
  links_ = &links;
}

Links& Worker::links() {
  CHECK(links_ != nullptr);
  return *links_;
}

absl::StatusOr<std::unique_ptr<Worker::Call>> Worker::Admit(
    common::v1::Role role, const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
    absl::AnyInvocable<void()> hand_back) {
  std::string router;
  const auto found = metadata.find({kRouterMetadata.data(), kRouterMetadata.size()});
  if (found != metadata.end()) router.assign(found->second.data(), found->second.size());

  const std::lock_guard<std::mutex> lock(mutex_);
  if (state_ == control::v1::WORKER_STATE_DRAINING) {
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat("worker ", options_.id, " takes nothing new")),
        "DRAINING");
  }
  if (opened_.size() < kMaxRouters || opened_.count(router) != 0) ++opened_[router];
  const int64_t id = ++last_call_;
  calls_.emplace(id, Running{role, std::move(hand_back), false, {}});
  return std::unique_ptr<Call>(new Call(*this, id));
}

absl::Status Worker::HandedBack() {
  return WithReason(absl::AbortedError("the worker is being shut down"), "DRAINING");
}

Worker::Call::~Call() { worker_.Leave(id_); }

void Worker::Leave(int64_t id) {
  absl::AnyInvocable<void()> unused;  // may hold what calls us: goes outside the lock
  {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto found = calls_.find(id);
    CHECK(found != calls_.end()) << id;
    Running& running = found->second;
    // It may be hand_back itself that ends the call.
    if (running.teller != std::this_thread::get_id()) {
      changed_.wait(lock, [&] { return !running.is_telling; });
    }
    unused = std::move(running.hand_back);
    calls_.erase(found);
  }
  changed_.notify_all();
}

void Worker::SetReady() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (state_ != control::v1::WORKER_STATE_LOADING) return;  // it may drain already
    state_ = control::v1::WORKER_STATE_READY;
  }
  state_changes_.Tell();
}

bool Worker::draining() const { return state() == control::v1::WORKER_STATE_DRAINING; }

control::v1::WorkerState Worker::state() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return state_;
}

int64_t Worker::running() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int64_t>(calls_.size());
}

void Worker::Drain(absl::Duration grace) {
  bool is_first = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto at = After(grace);
    is_first = state_ != control::v1::WORKER_STATE_DRAINING;
    if (is_first || at < hand_back_at_) hand_back_at_ = at;
    if (is_first) {
      state_ = control::v1::WORKER_STATE_DRAINING;
      grace_ = std::thread([this] { AwaitGrace(); });
    }
  }
  changed_.notify_all();
  if (is_first) state_changes_.Tell();
}

void Worker::WaitUntilDrained() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock,
                [this] { return state_ == control::v1::WORKER_STATE_DRAINING && calls_.empty(); });
}

void Worker::AwaitGrace() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!is_ending_ && !calls_.empty() && std::chrono::steady_clock::now() < hand_back_at_) {
    changed_.wait_until(lock, hand_back_at_);
  }
  if (is_ending_) return;
  while (true) {
    const auto next = std::find_if(calls_.begin(), calls_.end(), [](const auto& call) {
      return call.second.hand_back != nullptr;
    });
    if (next == calls_.end()) return;
    const int64_t id = next->first;
    absl::AnyInvocable<void()> hand_back = std::move(next->second.hand_back);
    next->second.hand_back = nullptr;
    next->second.is_telling = true;
    next->second.teller = std::this_thread::get_id();
    lock.unlock();
    hand_back();
    hand_back = nullptr;
    lock.lock();
    const auto told = calls_.find(id);
    if (told == calls_.end()) continue;  // it ended its call
    told->second.is_telling = false;
    told->second.teller = std::thread::id();
    changed_.notify_all();
  }
}

control::v1::WorkerHello Worker::Hello() const {
  control::v1::WorkerHello hello;
  hello.set_worker_id(options_.id);
  hello.set_incarnation(BytesOf(incarnation()));
  hello.set_address(options_.address);
  hello.set_admin_address(options_.admin_address);
  hello.set_pid(static_cast<uint32_t>(getpid()));
  for (const common::v1::Role role : options_.roles) hello.add_roles(role);
  *hello.mutable_model() = options_.identity;
  hello.set_first_transfer_version(kFirstTransferVersion);
  hello.set_last_transfer_version(kLastTransferVersion);
  for (const control::v1::Device& device : options_.devices) *hello.add_devices() = device;
  *hello.mutable_capacity() = options_.capacity;
  return hello;
}

control::v1::WorkerLoad Worker::Load(absl::string_view router) {
  control::v1::WorkerLoad load;
  for (const common::v1::Role role : options_.roles) RoleLoadOf(load, role);
  load.set_landings(static_cast<uint32_t>(landings_.open()));
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    load.set_state(state_);
    for (const auto& [id, call] : calls_) {
      control::v1::RoleLoad& part = RoleLoadOf(load, call.role);
      part.set_running(part.running() + 1);
    }
    uint64_t opened = 0;
    const std::string name = absl::BytesToHexString(router);
    for (const auto& [key, count] : opened_) {
      if (router.empty() || key == name) opened += count;
    }
    load.set_opened_calls(opened);
  }
  board_.Tell(load);
  return load;
}

void Worker::ForgetCalls(absl::string_view router) {
  const std::lock_guard<std::mutex> lock(mutex_);
  opened_.erase(absl::BytesToHexString(router));
}

}  // namespace minicpmv
