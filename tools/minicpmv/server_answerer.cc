#include "tools/minicpmv/server_answerer.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "runtime/base/blame.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "runtime/base/tracing.h"
#include "runtime/text/utf8.h"

namespace minicpmv {
namespace {

absl::StatusOr<chat::v1::Role> RoleOf(const Message& message) {
  if (message.role == "system") return chat::v1::ROLE_SYSTEM;
  if (message.role == "user") return chat::v1::ROLE_USER;
  if (message.role == "assistant") return chat::v1::ROLE_ASSISTANT;
  return absl::InvalidArgumentError(absl::StrCat("has the role ", Quoted(message.role),
                                                 "; roles are system, user and assistant"));
}

absl::Status AddMessage(const Message& message, const std::vector<Picture>& pictures,
                        size_t& next_picture, chat::v1::Message& added) {
  ASSIGN_OR_RETURN(const chat::v1::Role role, RoleOf(message));
  added.set_role(role);
  for (const MessagePart& part : message.parts) {
    if (part.is_image) {
      CHECK_LT(next_picture, pictures.size());
      added.add_parts()->mutable_media()->set_inline_(pictures[next_picture++].bytes);
      continue;
    }
    if (const std::optional<size_t> place = FindInvalidUtf8(part.text); place.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat("is not UTF-8 at byte ", *place));
    }
    added.add_parts()->set_text(part.text);
  }
  return absl::OkStatus();
}

// Whole numbers of flags are within [0, 2^31).
uint32_t CountOf(int64_t value) {
  CHECK(value >= 0 && value <= UINT32_MAX) << value;
  return static_cast<uint32_t>(value);
}

void SetOptions(const ReplyOptions& options, chat::v1::ReplyOptions& set) {
  chat::v1::Sampling& sampling = *set.mutable_sampling();
  if (options.greedy) sampling.set_greedy(true);
  if (options.temperature) sampling.set_temperature(*options.temperature);
  if (options.top_p) sampling.set_top_p(*options.top_p);
  if (options.top_k) sampling.set_top_k(CountOf(*options.top_k));
  if (options.repetition_penalty) sampling.set_repetition_penalty(*options.repetition_penalty);
  if (options.seed) sampling.set_seed(*options.seed);
  chat::v1::MediaOptions& media = *set.mutable_media();
  if (options.max_slices) media.set_max_slices(CountOf(*options.max_slices));
  if (!options.image_ids) media.set_use_image_id(false);
  media.set_ignore_exif_orientation(options.exif == Exif::kIgnore);
  if (options.max_new_tokens) set.set_max_new_tokens(CountOf(*options.max_new_tokens));
  if (options.min_new_tokens > 0) set.set_min_new_tokens(CountOf(options.min_new_tokens));
  for (const std::string& stop : options.stop) set.add_stop(stop);
  set.set_reference_quirks(options.reference_quirks);
}

double SecondsOf(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
}

const google::protobuf::Duration& LineOf(const chat::v1::Bill& bill, BillStage stage) {
  switch (stage) {
    case BillStage::kQueue:
      return bill.queue();
    case BillStage::kMedia:
      return bill.media();
    case BillStage::kEncode:
      return bill.encode();
    case BillStage::kTransfer:
      return bill.transfer();
    case BillStage::kPrefill:
      return bill.prefill();
    case BillStage::kDecode:
      return bill.decode();
  }
  return bill.total();
}

void NoteEnding(const chat::v1::ReplyEnding& ending, Answer& answer) {
  answer.was_cut = ending.finish_reason() == chat::v1::FINISH_REASON_LENGTH;
  answer.prompt_tokens = ending.usage().prompt_tokens();
  for (size_t i = 0; i < answer.seconds.size(); ++i) {
    answer.seconds[i] = SecondsOf(LineOf(ending.bill(), kBillStages[i]));
  }
  answer.total_seconds = SecondsOf(ending.bill().total());
  for (const chat::v1::StageTime& time : ending.bill().stages()) {
    answer.spans.push_back({time.stage(), SecondsOf(time.start()), SecondsOf(time.end())});
  }
}

}  // namespace

absl::StatusOr<chat::v1::StreamReplyRequest> RequestOf(const Conversation& conversation,
                                                       const ReplyOptions& options) {
  chat::v1::StreamReplyRequest request;
  size_t next_picture = 0;
  for (size_t i = 0; i < conversation.messages.size(); ++i) {
    const absl::Status added =
        AddMessage(conversation.messages[i], conversation.pictures, next_picture,
                   *request.mutable_conversation()->add_messages());
    if (!added.ok()) {
      return absl::Status(added.code(), absl::StrCat("message ", i + 1, " ", added.message()));
    }
  }
  SetOptions(options, *request.mutable_options());
  return request;
}

ServerAnswerer::ServerAnswerer(std::unique_ptr<sdk::Client> client, const ReplyOptions& options)
    : client_(std::move(client)), options_(options) {}

absl::Status ServerAnswerer::CheckLastPicture(const Conversation& conversation) {
  const Picture& picture = conversation.pictures.back();
  return Blame(picture.name, client_->UploadMedia(picture.bytes).status());
}

absl::StatusOr<Answer> ServerAnswerer::Reply(
    const Conversation& conversation, absl::FunctionRef<absl::Status(absl::string_view)> sink) {
  ASSIGN_OR_RETURN(chat::v1::StreamReplyRequest request, RequestOf(conversation, options_));
  const absl::Time begin = Clock::Monotonic().Now();
  TracedWork work;
  sdk::CallOptions call;
  if (IsTracing()) {
    work.context = NewTrace();
    call.traceparent = work.context.Traceparent();
  }
  const std::unique_ptr<sdk::ReplyStream> stream = client_->StreamReply(std::move(request), call);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    running_ = stream.get();
  }
  Answer answer;
  absl::Status status;
  bool is_over = false;
  while (!is_over && status.ok()) {
    const absl::StatusOr<std::optional<chat::v1::StreamReplyResponse>> event = stream->Next();
    if (!event.ok()) {
      status = event.status();
    } else if (!event->has_value()) {
      is_over = true;
    } else if ((*event)->has_start()) {
      answer.seed = (*event)->start().seed();
      work.request_id = (*event)->start().request_id();
    } else if ((*event)->has_text()) {
      const chat::v1::ReplyText& text = (*event)->text();
      if (answer.tokens.empty()) {
        TracePart(TraceRow::kStage, "to the first text", begin, kNow, work);
      }
      answer.text += text.text();
      answer.tokens.insert(answer.tokens.end(), text.tokens().begin(), text.tokens().end());
      if (!text.text().empty()) status = sink(text.text());
    } else {
      NoteEnding((*event)->ending(), answer);
    }
  }
  TraceCall("StreamReply", begin, kNow, work,
            {{"tokens", static_cast<int64_t>(answer.tokens.size())},
             {"resumptions", int64_t{stream->resumptions()}},
             {"error", status.ok() ? "" : absl::StatusCodeToString(status.code())}});
  bool was_cancelled;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    was_cancelled = running_ == nullptr;
    running_ = nullptr;
  }
  if (!status.ok() && !(was_cancelled && absl::IsCancelled(status))) return status;
  return answer;
}

void ServerAnswerer::Cancel() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (running_ == nullptr) return;
  running_->Cancel();
  running_ = nullptr;  // as a sign that this was us
}

}  // namespace minicpmv
