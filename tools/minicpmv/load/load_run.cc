#include "tools/minicpmv/load/load_run.h"

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/base/status_macros.h"
#include "tools/minicpmv/load/drawn_turn.h"
#include "tools/sdk/cpp/status.h"

namespace minicpmv {
namespace {

// Conversations that are drawn before their time.
constexpr size_t kDrawnAhead = 64;
constexpr absl::Duration kBetweenProgress = absl::Seconds(1);
// What a later turn adds at most beside its text: marks of two messages.
constexpr int64_t kTurnMarks = 64;
// Tokens that a reply's text has when it is read again, for one that was written. A byte that is no
// whole character comes back as three.
constexpr int64_t kReadAgain = 3;

}  // namespace

struct LoadRun::Talk {
  const PlannedConversation* plan = nullptr;
  size_t turn = 0;
  std::mt19937_64 text;
  chat::v1::Conversation said;

  // Of the reply before.
  int64_t prompt_tokens = 0, output_tokens = 0;
  std::string reply;

  const PlannedTurn& planned() const { return plan->turns[turn]; }
};

LoadRun::LoadRun(sdk::Client& client, std::vector<PlannedConversation> plan,
                 const LoadRunOptions& options)
    : client_(client), plan_(std::move(plan)), options_(options), start_(Clock::Monotonic().Now()) {
  threads_.emplace_back([this] { Draw(); });
  for (int i = 0; i < options_.streams; ++i) threads_.emplace_back([this] { Send(); });
}

LoadRun::~LoadRun() {
  Stop();
  for (std::thread& thread : threads_) thread.join();
}

void LoadRun::Stop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_stopped_ = true;
  for (sdk::ReplyStream* const stream : streams_) stream->Cancel();
  changed_.notify_all();
  may_draw_.notify_all();
  may_send_.notify_all();
}

absl::Duration LoadRun::Now() const { return Clock::Monotonic().Now() - start_; }

std::vector<RequestRecord> LoadRun::Run(absl::FunctionRef<void(const LoadProgress&)> progress) {
  absl::Duration next_progress = kBetweenProgress;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    const absl::Duration now = Now();
    while (!due_.empty() && due_.top().at <= now) {
      const Due& due = due_.top();
      if (due.talk->turn == 0) {
        ++begun_;
        may_draw_.notify_one();
      }
      if (due.at < options_.duration) {
        ready_.push_back(due);
        may_send_.notify_one();
      }
      due_.pop();
    }
    if (IsOver()) break;
    if (now >= next_progress) {
      next_progress += kBetweenProgress;
      progress(Progress());
      continue;
    }
    const absl::Duration wake =
        due_.empty() ? next_progress : std::min(next_progress, due_.top().at);
    changed_.wait_for(lock, absl::ToChronoNanoseconds(wake - now));
  }
  for (const RequestRecord& record : records_) elapsed_ = std::max(elapsed_, record.end);
  return std::move(records_);
}

bool LoadRun::IsOver() const {
  if (is_stopped_) return open_ == 0;
  return drawn_ == plan_.size() && due_.empty() && ready_.empty() && open_ == 0;
}

LoadProgress LoadRun::Progress() const {
  return {Now(),
          sent_,
          static_cast<int64_t>(ready_.size()),
          open_,
          completed_,
          refused_,
          static_cast<int64_t>(records_.size()) - completed_ - refused_,
          tokens_};
}

void LoadRun::Draw() {
  for (const PlannedConversation& plan : plan_) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      may_draw_.wait(lock, [this] { return drawn_ < begun_ + kDrawnAhead || is_stopped_; });
      if (is_stopped_) return;
    }
    auto talk = std::make_shared<Talk>();
    talk->plan = &plan;
    talk->text.seed(plan.text_seed);
    Say(*talk);
    const std::lock_guard<std::mutex> lock(mutex_);
    due_.push({plan.arrival, std::move(talk)});
    ++drawn_;
    lateness_ = std::max(lateness_, Now() - plan.arrival);
    changed_.notify_one();
  }
}

void LoadRun::Send() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    may_send_.wait(lock, [this] { return !ready_.empty() || is_stopped_; });
    if (is_stopped_) return;
    const Due due = std::move(ready_.front());
    ready_.pop_front();
    ++open_;
    ++sent_;
    lock.unlock();
    Talk& talk = *due.talk;
    RequestRecord record = Ask(talk, due.at);
    std::optional<absl::Duration> next;
    if (record.completed() && ++talk.turn < talk.plan->turns.size() && HasRoom(talk)) {
      next = record.end + talk.planned().think;
      if (*next < options_.duration) Say(talk);
    }
    lock.lock();
    if (next.has_value() && *next < options_.duration) due_.push({*next, due.talk});
    --open_;
    changed_.notify_one();
    if (is_stopped_ && record.code == absl::StatusCode::kCancelled) continue;
    completed_ += record.completed();
    refused_ += record.refused();
    records_.push_back(std::move(record));
  }
}

void LoadRun::Say(Talk& talk) const {
  if (talk.turn > 0) {
    chat::v1::Message& reply = *talk.said.add_messages();
    reply.set_role(chat::v1::ROLE_ASSISTANT);
    reply.add_parts()->set_text(talk.reply);
  }
  chat::v1::Message& message = *talk.said.add_messages();
  message.set_role(chat::v1::ROLE_USER);
  DrawnTurn drawn = DrawTurn(talk.planned(), options_.tokens_per_word, talk.text);
  for (std::string& picture : drawn.pictures) {
    message.add_parts()->mutable_media()->set_inline_(std::move(picture));
  }
  message.add_parts()->set_text(std::move(drawn.text));
}

bool LoadRun::HasRoom(const Talk& talk) const {
  if (talk.reply.empty()) return false;  // nothing that could be carried on
  return talk.prompt_tokens + kReadAgain * talk.output_tokens + kTurnMarks +
             2 * talk.planned().text_tokens + talk.planned().output_tokens <=
         options_.context_tokens;
}

RequestRecord LoadRun::Ask(Talk& talk, absl::Duration due) {
  RequestRecord record;
  record.load_class = talk.plan->load_class;
  record.due = due;
  record.sent = Now();
  const absl::Duration left = due + options_.timeout - record.sent;
  if (left <= absl::ZeroDuration()) {
    record.code = absl::StatusCode::kDeadlineExceeded;
    record.end = record.sent;
    return record;
  }
  chat::v1::StreamReplyRequest request;
  *request.mutable_conversation() = talk.said;
  const auto output = static_cast<uint32_t>(talk.planned().output_tokens);
  request.mutable_options()->mutable_sampling()->set_greedy(true);
  request.mutable_options()->set_max_new_tokens(output);
  request.mutable_options()->set_min_new_tokens(output);
  request.mutable_options()->mutable_media()->set_max_slices(
      static_cast<uint32_t>(talk.plan->max_slices));
  talk.reply.clear();
  talk.output_tokens = 0;
  const std::unique_ptr<sdk::ReplyStream> stream = client_.StreamReply(std::move(request), {left});
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    streams_.insert(stream.get());
    if (is_stopped_) stream->Cancel();
  }
  const absl::Status status = Listen(*stream, talk, record);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    streams_.erase(stream.get());
  }
  record.end = Now();
  record.code = status.code();
  record.has_retry_delay = sdk::RetryDelayOf(status).has_value();
  record.resumptions = stream->resumptions();
  return record;
}

absl::Status LoadRun::Listen(sdk::ReplyStream& stream, Talk& talk, RequestRecord& record) {
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<chat::v1::StreamReplyResponse> event, stream.Next());
    if (!event.has_value()) return absl::OkStatus();
    if (event->has_ending()) talk.prompt_tokens = event->ending().usage().prompt_tokens();
    if (event->text().tokens().empty()) continue;
    record.events.push_back({Now(), event->text().tokens_size()});
    talk.reply += event->text().text();
    talk.output_tokens += event->text().tokens_size();
    const std::lock_guard<std::mutex> lock(mutex_);
    tokens_ += event->text().tokens_size();
  }
}

}  // namespace minicpmv
