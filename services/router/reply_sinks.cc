#include "services/router/reply_sinks.h"

namespace minicpmv::router {
namespace {

// So many messages may wait for a reader before they are joined: what one step of several tokens
// brings leaves at once.
constexpr size_t kMaxWaiting = 8;
// A client whose deadline passes hangs up, by its own clock, a little before ours says so.
constexpr absl::Duration kDeadlineTravels = absl::Milliseconds(100);

absl::Status Gone() { return absl::CancelledError("the client has gone"); }

absl::Status OfRequest(const absl::Status& status, const std::string& request_id) {
  return status.ok() || request_id.empty() ? status : WithRequestId(status, request_id);
}

}  // namespace

ReplyRecord::ReplyRecord(RouterMetrics& metrics, Loop& loop, absl::Time deadline, bool is_stream)
    : metrics_(metrics),
      loop_(loop),
      arrival_(loop.Now()),
      deadline_(deadline),
      is_stream_(is_stream) {
  metrics_.OnRequest();
}

ReplyRecord::~ReplyRecord() {
  if (has_ended_) return;
  End(loop_.Now() + kDeadlineTravels >= deadline_ ? absl::DeadlineExceededError("")
                                                  : absl::CancelledError(""));
}

void ReplyRecord::NoteTokens(int tokens) {
  if (tokens == 0) return;
  last_token_ = loop_.Now();
  if (tokens_ == 0) first_token_ = last_token_;
  tokens_ += tokens;
}

void ReplyRecord::End(const absl::Status& status) {
  if (has_ended_) return;
  has_ended_ = true;
  const bool by_deadline = absl::IsDeadlineExceeded(status);
  if (by_deadline || absl::IsCancelled(status)) metrics_.OnCancelled(by_deadline);
  metrics_.OnReply(status, is_stream_, loop_.Now() - arrival_, tokens_, last_token_ - first_token_);
}

StreamSink::StreamSink(std::shared_ptr<Stream> stream, uint64_t sequence, ReplyKeeping keeping)
    : stream_(std::move(stream)), sequence_(sequence), keeping_(std::move(keeping)) {}

StreamSink::~StreamSink() {
  if (!has_ended_) stream_->End(OfRequest(Gone(), request_id_));
}

void StreamSink::Write(chat::v1::StreamReplyResponse event) {
  event.set_sequence(++sequence_);
  stream_->Send(std::move(event));
}

void StreamSink::WriteJoined() {
  if (joined_) Write(*std::exchange(joined_, std::nullopt));
}

void StreamSink::Send(chat::v1::StreamReplyResponse event) {
  keeping_.record->NoteTokens(event.text().tokens_size());
  if (event.has_start()) request_id_ = event.start().request_id();
  if (joined_ && event.has_text() && event.choice() == joined_->choice()) {
    chat::v1::ReplyText& text = *joined_->mutable_text();
    text.mutable_text()->append(event.text().text());
    text.mutable_tokens()->MergeFrom(event.text().tokens());
    if (stream_->waiting() == 0) WriteJoined();
    return;
  }
  WriteJoined();
  if (event.has_text() && stream_->waiting() >= kMaxWaiting) {
    joined_ = std::move(event);
  } else {
    Write(std::move(event));
  }
}

void StreamSink::End(const absl::Status& status) {
  WriteJoined();
  has_ended_ = true;
  keeping_.record->End(status);
  stream_->End(OfRequest(status, request_id_));
}

WholeReplySink::~WholeReplySink() { call_->End(OfRequest(Gone(), response_.request_id())); }

void WholeReplySink::Send(chat::v1::StreamReplyResponse event) {
  keeping_.record->NoteTokens(event.text().tokens_size());
  if (event.has_start()) {
    response_.set_request_id(event.start().request_id());
    response_.set_model(event.start().model());
    response_.set_seed(event.start().seed());
    return;
  }
  while (response_.replies_size() <= static_cast<int>(event.choice())) {
    chat::v1::Reply& added = *response_.add_replies();
    added.set_choice(static_cast<uint32_t>(response_.replies_size() - 1));
  }
  chat::v1::Reply& reply = *response_.mutable_replies(static_cast<int>(event.choice()));
  if (event.has_text()) {
    reply.mutable_text()->append(event.text().text());
    reply.mutable_tokens()->MergeFrom(event.text().tokens());
  } else {
    reply.set_finish_reason(event.ending().finish_reason());
    *response_.mutable_usage() = std::move(*event.mutable_ending()->mutable_usage());
    *response_.mutable_bill() = std::move(*event.mutable_ending()->mutable_bill());
  }
}

void WholeReplySink::End(const absl::Status& status) {
  keeping_.record->End(status);
  if (status.ok()) {
    call_->End(std::move(response_));
  } else {
    call_->End(OfRequest(status, response_.request_id()));
  }
}

}  // namespace minicpmv::router
