#include "tools/sdk/cpp/reply_stream.h"

#include <utility>

#include "tools/sdk/cpp/status.h"
#include "tools/sdk/cpp/upload.h"

namespace minicpmv::sdk {
namespace {

// What may travel in one message.
constexpr size_t kMaxInlineBytes = 1 << 20;

std::vector<chat::v1::Media*> InlineMediaOf(chat::v1::Conversation& conversation) {
  std::vector<chat::v1::Media*> found;
  for (chat::v1::Message& message : *conversation.mutable_messages()) {
    for (chat::v1::Part& part : *message.mutable_parts()) {
      if (part.has_media() && part.media().has_inline_()) found.push_back(part.mutable_media());
    }
  }
  return found;
}

}  // namespace

ReplyStream::ReplyStream(Servers& servers, chat::v1::StreamReplyRequest request,
                         const CallOptions& options)
    : servers_(servers), attempts_(servers, options), request_(std::move(request)) {
  if (request_.has_resume()) {
    has_start_ = true;
    sequence_ = delivered_ = request_.resume().sequence();
  }
  const std::vector<chat::v1::Media*> media = InlineMediaOf(*request_.mutable_conversation());
  size_t bytes = 0;
  for (const chat::v1::Media* const one : media) bytes += one->inline_().size();
  if (bytes <= kMaxInlineBytes) return;
  for (chat::v1::Media* const one : media) {
    media_.push_back(std::move(*one->mutable_inline_()));
    media_places_.push_back(one);
  }
}

ReplyStream::~ReplyStream() {
  if (!reader_) return;
  Cancel();
  Close().IgnoreError();
}

absl::Status ReplyStream::UploadMedia() {
  for (size_t i = 0; i < media_.size(); ++i) {
    context_ = attempts_.NewContext();
    absl::StatusOr<chat::v1::UploadedMedia> uploaded =
        Upload(*attempts_.server().stub, *context_, media_[i]);
    if (!uploaded.ok()) return uploaded.status();
    media_places_[i]->set_handle(uploaded->handle());
  }
  return absl::OkStatus();
}

absl::Status ReplyStream::Open() {
  if (absl::Status uploaded = UploadMedia(); !uploaded.ok()) return uploaded;
  if (has_start_) request_.mutable_resume()->set_sequence(sequence_);
  context_ = attempts_.NewContext();
  reader_ = attempts_.server().stub->StreamReply(context_.get(), request_);
  is_at_first_event_ = true;
  return absl::OkStatus();
}

absl::Status ReplyStream::Close() {
  const grpc::Status status = reader_->Finish();
  reader_ = nullptr;
  return FromGrpc(status);
}

ReplyStream::Verdict ReplyStream::Judge(const Event& event) {
  if (event.sequence() <= sequence_) return Verdict::kSkip;
  if (event.sequence() != sequence_ + 1 || event.has_start() != is_at_first_event_) {
    return Verdict::kBroken;
  }
  sequence_ = event.sequence();
  is_at_first_event_ = false;
  chat::v1::Resume& resume = *request_.mutable_resume();
  switch (event.event_case()) {
    case Event::kStart:
      if (has_start_) return Verdict::kSkip;
      has_start_ = true;
      resume.set_seed(event.start().seed());
      resume.set_request_id(event.start().request_id());
      break;
    case Event::kText:
      resume.mutable_tokens()->MergeFrom(event.text().tokens());
      resume.set_text_bytes(resume.text_bytes() + event.text().text().size());
      break;
    case Event::kEnding:
      has_ended_ = true;
      break;
    case Event::EVENT_NOT_SET:
      return Verdict::kSkip;  // of a newer server
  }
  attempts_.NoteProgress();
  return Verdict::kDeliver;
}

absl::StatusOr<ReplyStream::Event> ReplyStream::Read() {
  if (!reader_) {
    if (absl::Status opened = Open(); !opened.ok()) return opened;
  }
  Event event;
  while (reader_->Read(&event)) {
    switch (Judge(event)) {
      case Verdict::kDeliver:
        return event;
      case Verdict::kSkip:
        break;
      case Verdict::kBroken:
        context_->TryCancel();
        Close().IgnoreError();
        return absl::UnavailableError("events of a reply did not follow each other");
    }
  }
  absl::Status ended = Close();
  if (ended.ok()) ended = absl::UnavailableError("a reply ended without its ending");
  return ended;
}

absl::StatusOr<std::optional<chat::v1::StreamReplyResponse>> ReplyStream::Next() {
  if (!failure_.ok()) return failure_;
  while (!has_ended_) {
    absl::StatusOr<Event> event = Read();
    if (event.ok()) {
      event->set_sequence(++delivered_);
      return std::optional<Event>(*std::move(event));
    }
    failure_ = attempts_.AwaitNext(event.status());
    if (!failure_.ok()) return failure_;
    if (has_start_) ++resumptions_;
  }
  return std::optional<Event>();
}

}  // namespace minicpmv::sdk
