#include "services/router/request_queue.h"

#include <algorithm>
#include <vector>

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

RequestQueue::RequestQueue(const Limits& limits, const TenantBook& tenants, Loop& loop,
                           RouterWatch& watch)
    : limits_(limits), tenants_(tenants), loop_(loop), watch_(watch), last_let_in_(loop.Now()) {}

RequestQueue::~RequestQueue() { CHECK_EQ(waiting_, 0u); }

RequestQueue::Place::Place(RequestQueue& queue, RequestClass request_class, std::string tenant,
                           Key key)
    : queue_(queue),
      class_(request_class),
      tenant_(std::move(tenant)),
      key_(key),
      arrival_(queue.loop_.Now()) {
  queue_.Count(*this, 1);
}

RequestQueue::Place::~Place() { queue_.Leave(*this); }

void RequestQueue::Place::Wait(double work, std::function<bool()> go) {
  go_ = std::move(go);
  work_ = work;
  if (queue_.waiting_ == 0) queue_.last_let_in_ = queue_.loop_.Now();
  Waiting* others = &queue_.returned_;
  if (is_new_) {
    Line& line = queue_.lines_.at(tenant_);
    if (line.waiting.empty()) line.end = std::max(line.end, queue_.virtual_time_);
    others = &line.waiting;
  }
  queue_.waiting_ += others->emplace(key_, this).second;
  queue_.PumpSoon();
}

void RequestQueue::Place::LetIn() {
  if (!is_new_) return;
  Line& line = queue_.lines_.at(tenant_);
  queue_.virtual_time_ = std::max(queue_.virtual_time_, line.end);
  line.end += work_ / line.weight;
  queue_.Count(*this, -1);
  is_new_ = false;
  const absl::Time now = queue_.loop_.Now();
  queue_.watch_.OnQueueWait(class_, now - arrival_);
  // Whoever finds room at once says nothing of how fast a queue moves.
  const double seconds = absl::ToDoubleSeconds(now - std::max(queue_.last_let_in_, arrival_));
  queue_.last_let_in_ = now;
  if (now == arrival_ || queue_.waiting_ == 0) return;
  double& between = queue_.seconds_between_;
  between = between == 0 ? seconds : between + kNewestWeight * (seconds - between);
}

void RequestQueue::Place::Correct(double work) {
  const auto line = queue_.lines_.find(tenant_);
  // Where nobody has waited meanwhile it makes no difference.
  if (!is_new_ && line != queue_.lines_.end()) {
    line->second.end += (work - work_) / line->second.weight;
  }
  work_ = work;
}

absl::StatusOr<std::unique_ptr<RequestQueue::Place>> RequestQueue::Enter(RequestClass request_class,
                                                                         const std::string& tenant,
                                                                         absl::Time deadline) {
  const auto line = lines_.find(tenant);
  const size_t of_tenant = line == lines_.end() ? 0 : line->second.entered;
  if (new_ >= limits_.requests) {
    return Refuse(tenant, "QUEUE_FULL", absl::StrCat(new_, " requests wait already"));
  }
  if (of_tenant >= limits_.of_one_tenant) {
    return Refuse(tenant, "QUEUE_FULL",
                  absl::StrCat("of this tenant ", of_tenant, " requests wait"));
  }
  const absl::Duration wait = EstimatedWait(tenant);
  if (wait > limits_.wait) {
    return Refuse(tenant, "QUEUE_FULL",
                  absl::StrCat("the queue takes about ", absl::FormatDuration(wait)));
  }
  const absl::Time now = loop_.Now();
  if (deadline != absl::InfiniteFuture() && now + wait > deadline) {
    return Refuse(tenant, "DEADLINE_HOPELESS",
                  absl::StrCat("the deadline is in ", absl::FormatDuration(deadline - now),
                               ", the queue takes about ", absl::FormatDuration(wait)));
  }
  const Key key(std::min(now + ClassDelay(request_class), deadline), ++last_);
  return std::unique_ptr<Place>(new Place(*this, request_class, tenant, key));
}

void RequestQueue::PumpSoon() {
  if (pump_ != nullptr || waiting_ == 0) return;
  pump_ = loop_.At(loop_.Now(), [this] {
    pump_ = nullptr;
    Pump();
  });
}

void RequestQueue::Pump() {
  int passed = 0;
  AskReturned(passed);
  if (passed < kLookAhead) AskLines(passed);
  ForgetIdleLines();
}

bool RequestQueue::IsLast(const Place& place, int& passed) const {
  if (loop_.Now() > place.key_.first + kMaxPassing) passed = kLookAhead;
  return ++passed >= kLookAhead;
}

// Whoever is asked stays in line meanwhile, so that the queue does not seem empty.
void RequestQueue::AskReturned(int& passed) {
  for (auto next = returned_.begin(); next != returned_.end();) {
    if (next->second->go_()) {
      next = returned_.erase(next);
      --waiting_;
    } else if (IsLast(*next++->second, passed)) {
      return;
    }
  }
}

void RequestQueue::AskLines(int& passed) {
  struct Turn {
    double start;  // in virtual time
    Line* line;
    Waiting::iterator next;
  };
  const auto is_later = [](const Turn& a, const Turn& b) {
    return a.start != b.start ? a.start > b.start : a.next->first > b.next->first;
  };
  std::vector<Turn> turns;
  for (auto& [tenant, line] : lines_) {
    if (!line.waiting.empty()) turns.push_back({line.end, &line, line.waiting.begin()});
  }
  std::make_heap(turns.begin(), turns.end(), is_later);
  while (!turns.empty()) {
    std::pop_heap(turns.begin(), turns.end(), is_later);
    Turn& turn = turns.back();
    const Place& place = *turn.next->second;
    // Who is passed has had its turn as far as the order of the others goes.
    turn.start += place.work_ / turn.line->weight;
    if (place.go_()) {
      turn.next = turn.line->waiting.erase(turn.next);
      --waiting_;
    } else {
      ++turn.next;
      if (IsLast(place, passed)) return;
    }
    if (turn.next == turn.line->waiting.end()) {
      turns.pop_back();
    } else {
      std::push_heap(turns.begin(), turns.end(), is_later);
    }
  }
}

absl::Duration RequestQueue::EstimatedWait(const std::string& tenant) const {
  if (waiting_ == 0) return absl::ZeroDuration();
  const auto own = lines_.find(tenant);
  const double position = own == lines_.end() ? 1 : 1 + static_cast<double>(own->second.entered);
  const double weight = tenants_.TermsOf(tenant).weight;
  double before = position;
  for (auto line = lines_.begin(); line != lines_.end(); ++line) {
    if (line == own) continue;
    // Of other tenants as many go before as their weights give them, if there are so many.
    before += std::min(static_cast<double>(line->second.entered),
                       position * line->second.weight / weight);
  }
  return absl::Seconds(seconds_between_ * before);
}

void RequestQueue::Count(const Place& place, int difference) {
  new_ += difference;
  size_t& of_class = classes_[place.class_];
  of_class += difference;
  watch_.OnQueueDepth(place.class_, of_class);
  const auto [line, is_new] = lines_.try_emplace(place.tenant_);
  if (is_new) line->second.weight = tenants_.TermsOf(place.tenant_).weight;
  line->second.entered += difference;
}

void RequestQueue::Leave(const Place& place) {
  const auto line = lines_.find(place.tenant_);
  waiting_ -= returned_.erase(place.key_);
  if (line != lines_.end()) waiting_ -= line->second.waiting.erase(place.key_);
  if (place.is_new_) Count(place, -1);
  ForgetIdleLines();
}

// Of a tenant that has had its share nothing has to be known any more once the others have theirs,
// or nobody waits.
void RequestQueue::ForgetIdleLines() {
  std::erase_if(lines_, [this](const auto& entry) {
    const Line& line = entry.second;
    return line.entered == 0 && line.waiting.empty() &&
           (waiting_ == 0 || line.end <= virtual_time_);
  });
}

absl::Status RequestQueue::Refuse(const std::string& tenant, absl::string_view reason,
                                  absl::string_view words) {
  watch_.OnRejected(reason);
  const absl::Duration wait = std::clamp(EstimatedWait(tenant), kShortestRetry, kLongestRetry);
  return WithRetryAfter(WithReason(absl::ResourceExhaustedError(words), reason), wait);
}

}  // namespace minicpmv::router
