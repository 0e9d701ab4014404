#include "services/router/request_queue.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "services/common/status_proto.h"

namespace minicpmv::router {
namespace {

// How far behind those that came with it a request of a class stands.
absl::Duration ClassDelay(RequestClass request_class) {
  switch (request_class) {
    case RequestClass::kText:
      return absl::ZeroDuration();
    case RequestClass::kImage:
      return absl::Milliseconds(250);
    case RequestClass::kVideo:
      return absl::Seconds(2);
  }
  return absl::ZeroDuration();
}

// How far behind one stands for each other request of its tenant that waits, and at most.
constexpr absl::Duration kTenantDelay = absl::Milliseconds(100);
constexpr absl::Duration kMaxTenantDelay = absl::Seconds(10);
// For so long others may pass the one whose turn it is.
constexpr absl::Duration kMaxPassing = absl::Seconds(5);
// How many that do not fit are passed in one go.
constexpr int kLookAhead = 16;
constexpr double kNewestWeight = 0.1;  // of a measurement
constexpr absl::Duration kShortestRetry = absl::Milliseconds(100);
constexpr absl::Duration kLongestRetry = absl::Seconds(60);

}  // namespace

absl::string_view NameOf(RequestClass request_class) {
  switch (request_class) {
    case RequestClass::kText:
      return "text";
    case RequestClass::kImage:
      return "image";
    case RequestClass::kVideo:
      return "video";
  }
  return "";
}

RequestQueue::RequestQueue(const Limits& limits, Loop& loop, RouterWatch& watch)
    : limits_(limits), loop_(loop), watch_(watch), last_let_in_(loop.Now()) {}

RequestQueue::~RequestQueue() { CHECK(waiting_.empty()) << waiting_.size() << " still wait"; }

RequestQueue::Place::Place(RequestQueue& queue, RequestClass request_class, std::string tenant,
                           Key key)
    : queue_(queue),
      class_(request_class),
      tenant_(std::move(tenant)),
      key_(key),
      arrival_(queue.loop_.Now()) {
  queue_.Count(*this, 1);
}

RequestQueue::Place::~Place() {
  queue_.waiting_.erase(key_);
  if (is_new_) queue_.Count(*this, -1);
}

void RequestQueue::Place::Wait(std::function<bool()> go) {
  go_ = std::move(go);
  if (queue_.waiting_.empty()) queue_.last_let_in_ = queue_.loop_.Now();
  queue_.waiting_[key_] = this;
  queue_.PumpSoon();
}

void RequestQueue::Place::LetIn() {
  if (!std::exchange(is_new_, false)) return;
  queue_.Count(*this, -1);
  const absl::Time now = queue_.loop_.Now();
  queue_.watch_.OnQueueWait(class_, now - arrival_);
  // Whoever finds room at once says nothing of how fast a queue moves.
  const double seconds = absl::ToDoubleSeconds(now - std::max(queue_.last_let_in_, arrival_));
  queue_.last_let_in_ = now;
  if (now == arrival_ || queue_.waiting_.empty()) return;
  double& between = queue_.seconds_between_;
  between = between == 0 ? seconds : between + kNewestWeight * (seconds - between);
}

absl::StatusOr<std::unique_ptr<RequestQueue::Place>> RequestQueue::Enter(RequestClass request_class,
                                                                         const std::string& tenant,
                                                                         absl::Time deadline) {
  const auto found = tenants_.find(tenant);
  const size_t of_tenant = found == tenants_.end() ? 0 : found->second;
  if (new_ >= limits_.requests) {
    return Refuse("QUEUE_FULL", absl::StrCat(new_, " requests wait already"));
  }
  if (of_tenant >= limits_.of_one_tenant) {
    return Refuse("QUEUE_FULL", absl::StrCat("of this tenant ", of_tenant, " requests wait"));
  }
  const absl::Time now = loop_.Now();
  if (deadline != absl::InfiniteFuture() && now + EstimatedWait() > deadline) {
    return Refuse("DEADLINE_HOPELESS",
                  absl::StrCat("the deadline is in ", absl::FormatDuration(deadline - now),
                               ", the queue takes about ", absl::FormatDuration(EstimatedWait())));
  }
  const absl::Duration delay =
      ClassDelay(request_class) +
      std::min(static_cast<int64_t>(of_tenant) * kTenantDelay, kMaxTenantDelay);
  const Key key(std::min(now + delay, deadline), ++last_);
  return std::unique_ptr<Place>(new Place(*this, request_class, tenant, key));
}

void RequestQueue::PumpSoon() {
  if (pump_ != nullptr || waiting_.empty()) return;
  pump_ = loop_.At(loop_.Now(), [this] {
    pump_ = nullptr;
    Pump();
  });
}

void RequestQueue::Pump() {
  int passed = 0;
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    Place& place = *next->second;
    // It stays in line while it is asked, so that the queue does not seem empty.
    if (place.go_()) {
      next = waiting_.erase(next);
      continue;
    }
    if (++passed >= kLookAhead || loop_.Now() > place.key_.first + kMaxPassing) return;
    ++next;
  }
}

absl::Duration RequestQueue::EstimatedWait() const {
  if (waiting_.empty()) return absl::ZeroDuration();
  return absl::Seconds(seconds_between_ * static_cast<double>(new_ + 1));
}

void RequestQueue::Count(const Place& place, int difference) {
  new_ += difference;
  size_t& of_class = classes_[place.class_];
  of_class += difference;
  watch_.OnQueueDepth(place.class_, of_class);
  const auto tenant = tenants_.try_emplace(place.tenant_, 0).first;
  tenant->second += difference;
  if (tenant->second == 0) tenants_.erase(tenant);
}

absl::Status RequestQueue::Refuse(absl::string_view reason, absl::string_view words) {
  watch_.OnRejected(reason);
  const absl::Duration wait = std::clamp(EstimatedWait(), kShortestRetry, kLongestRetry);
  return WithRetryAfter(WithReason(absl::ResourceExhaustedError(words), reason), wait);
}

}  // namespace minicpmv::router
