#include "services/router/reply_writer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "services/common/status_proto.h"
#include "services/router/reply_settings.h"

namespace minicpmv::router {
namespace {

absl::Status BadResume(absl::string_view field, absl::string_view words) {
  const std::string path = absl::StrCat("resume.", field);
  return WithField(absl::InvalidArgumentError(absl::StrCat(path, " ", words)), path);
}

}  // namespace

absl::StatusOr<ReplyWriter> ReplyWriter::Create(const chat::v1::StreamReplyRequest& request,
                                                const RouterModel& model, ReplySink& sink) {
  absl::StatusOr<ReplyText> text =
      ReplyText::Create(model.tokenizer(), TextOf(request.options(), model));
  if (!text.ok()) return WithField(text.status(), "options.stop");
  ReplyWriter writer(model, *std::move(text), sink);
  if (request.has_resume()) RETURN_IF_ERROR(writer.Repeat(request.resume()));
  return writer;
}

absl::Status ReplyWriter::Repeat(const chat::v1::Resume& resume) {
  sequence_ = resume.sequence();
  std::string text;
  for (const uint32_t token : resume.tokens()) {
    if (token >= static_cast<uint32_t>(model_->spec().language.vocabulary)) {
      return BadResume("tokens", absl::StrCat("holds ", token, ", which is no token"));
    }
    if (has_stopped()) return BadResume("tokens", "go on after the reply's end");
    tokens_.push_back(token);
    absl::StrAppend(&text, Take(token));
  }
  // A client may have the text behind the last token, too: what had waited for the reply's end.
  if (resume.text_bytes() <= text.size()) {
    waiting_ = text.substr(resume.text_bytes());
  } else {
    known_bytes_ = resume.text_bytes() - text.size();
  }
  return absl::OkStatus();
}

void ReplyWriter::Start(const std::string& request_id, const std::string& model_name,
                        uint64_t seed) {
  chat::v1::StreamReplyResponse event = NextEvent();
  chat::v1::ReplyStart& start = *event.mutable_start();
  start.set_request_id(request_id);
  start.set_model(model_name);
  start.set_seed(seed);
  sink_->Send(std::move(event));
}

void ReplyWriter::Push(absl::Span<const uint32_t> tokens) {
  std::string text = std::exchange(waiting_, "");
  const size_t before = tokens_.size();
  for (const uint32_t token : tokens) {
    if (has_stopped()) break;
    tokens_.push_back(token);
    absl::StrAppend(&text, Take(token));
  }
  SendText(std::move(text), absl::MakeConstSpan(tokens_).subspan(before));
}

void ReplyWriter::Finish(chat::v1::ReplyEnding ending) {
  std::string rest = std::exchange(waiting_, "");
  absl::StrAppend(&rest, text_.Finish());
  SendText(std::move(rest), {});
  chat::v1::StreamReplyResponse event = NextEvent();
  *event.mutable_ending() = std::move(ending);
  sink_->Send(std::move(event));
}

std::string ReplyWriter::Take(uint32_t token) {
  const auto id = static_cast<int32_t>(token);
  const std::vector<int32_t>& stops = model_->prompts().stop_ids();
  has_stop_id_ = std::find(stops.begin(), stops.end(), id) != stops.end();
  return has_stop_id_ ? "" : text_.Push(id);
}

void ReplyWriter::SendText(std::string text, absl::Span<const uint32_t> tokens) {
  const size_t known = std::min(known_bytes_, text.size());
  text.erase(0, known);
  known_bytes_ -= known;
  if (text.empty() && tokens.empty()) return;
  chat::v1::StreamReplyResponse event = NextEvent();
  chat::v1::ReplyText& said = *event.mutable_text();
  said.set_text(std::move(text));
  said.mutable_tokens()->Add(tokens.begin(), tokens.end());
  sink_->Send(std::move(event));
}

chat::v1::StreamReplyResponse ReplyWriter::NextEvent() {
  chat::v1::StreamReplyResponse event;
  event.set_sequence(++sequence_);
  return event;
}

}  // namespace minicpmv::router
