#include "tools/sdk/cpp/reply_progress.h"

#include <utility>

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

ReplyProgress::ReplyProgress(chat::v1::StreamReplyRequest request) : request_(std::move(request)) {
  if (request_.has_resume()) {
    has_start_ = true;
    sequence_ = delivered_ = request_.resume().sequence();
  }
  const std::vector<chat::v1::Media*> media = InlineMediaOf(*request_.mutable_conversation());
  size_t bytes = 0;
  for (const chat::v1::Media* const one : media) bytes += one->inline_().size();
  if (bytes <= kMaxInlineBytes) return;
  for (chat::v1::Media* const one : media) {
    chat::v1::UploadMediaRequest offer = UploadOfferOf(one->inline_());
    media_.push_back({std::move(*one->mutable_inline_()), std::move(offer), one});
  }
}

const chat::v1::StreamReplyRequest& ReplyProgress::BeginAttempt() {
  if (has_start_) request_.mutable_resume()->set_sequence(sequence_);
  is_at_first_event_ = true;
  return request_;
}

ReplyProgress::Verdict ReplyProgress::Judge(Event& event) {
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
  event.set_sequence(++delivered_);
  return Verdict::kDeliver;
}

}  // namespace minicpmv::sdk
