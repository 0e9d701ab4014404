#include "tools/minicpmv/local_reply.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/queue.h"
#include "runtime/base/status_macros.h"
#include "runtime/text/reply_text.h"

namespace minicpmv {
namespace {

absl::Time Now() { return Clock::Monotonic().Now(); }

// Carries what the engine's thread says to the thread that waits for it. Never blocks: there is
// room for all that may come.
class Mailbox final : public SequenceObserver {
 public:
  using Event = std::variant<int32_t, absl::StatusOr<Finish>>;

  Mailbox(int64_t tokens, const ReplyWatch* watch)
      : events_(static_cast<size_t>(tokens) + 1), watch_(watch) {}

  void OnToken(int32_t token) override { Put(token); }
  void OnLogits(int64_t position, absl::Span<const float> logits) override {
    watch_->logits(position, logits);
  }
  void OnEnd(absl::StatusOr<Finish> finish) override { Put(std::move(finish)); }

  Event Take() { return *events_.Pop(); }

 private:
  void Put(Event event) { CHECK(events_.Push(std::move(event))); }

  Queue<Event> events_;
  const ReplyWatch* watch_;
};

int64_t PromptLimit(const ReplyOptions& options, const LocalModel& model) {
  const int64_t context = model.max_positions() - 1;  // one place for an answer
  return std::min(context,
                  options.max_prompt_tokens.value_or(model.spec().family->max_prompt_tokens));
}

}  // namespace

// One Run: what was asked for, and the reply as far as it is known.
class LocalReply::Flow {
 public:
  Flow(LocalReply& owner, const Conversation& conversation, const ReplyOptions& options,
       PictureRows& rows, absl::FunctionRef<absl::Status(absl::string_view)> sink,
       const ReplyWatch* watch)
      : owner_(owner),
        model_(owner.model_),
        conversation_(conversation),
        options_(options),
        rows_(rows),
        sink_(sink),
        watch_(watch) {}

  absl::StatusOr<Reply> Run() {
    reply_.bill.Begin(Now());
    RETURN_IF_ERROR(Prepare());
    while (true) {
      ASSIGN_OR_RETURN(const bool ended, Attempt());
      if (ended) break;
      request_.tokens = prompt_.tokens;
      request_.tokens.insert(request_.tokens.end(), reply_.tokens.begin(), reply_.tokens.end());
    }
    Send(text_->Finish());
    RETURN_IF_ERROR(failure_);
    reply_.bill.End(Now());
    return std::move(reply_);
  }

 private:
  absl::Status Prepare() {
    ReplyText::Options text;
    text.stop = options_.stop;
    text.reference_quirks = options_.reference_quirks;
    const absl::string_view message_start = model_.spec().family->marks.message_start;
    text.message_start = model_.tokenizer().SpecialId(message_start).value_or(text.message_start);
    absl::StatusOr<ReplyText> created = ReplyText::Create(model_.tokenizer(), std::move(text));
    if (!created.ok()) return Blame("--stop", created.status());
    text_.emplace(*std::move(created));

    const absl::Time start = Now();
    ASSIGN_OR_RETURN(prompt_, owner_.Lay(conversation_, options_, rows_));
    if (!conversation_.pictures.empty()) reply_.bill.Add(BillStage::kMedia, start, Now());

    request_.id = "reply";
    request_.tokens = prompt_.tokens;
    request_.prompt_tokens = reply_.prompt_tokens = static_cast<int64_t>(prompt_.tokens.size());
    for (const Prompt::Span& span : prompt_.spans) {
      request_.spans.push_back({span.first, model_.spec().resampler.queries});
    }
    request_.sampling = SamplingOf(options_, model_.spec().generation);
    request_.sampling.stop_ids = model_.prompts().stop_ids();
    reply_.seed = request_.sampling.seed;
    if (watch_ != nullptr) {
      request_.forced_tokens = watch_->forced_tokens;
      request_.show_logits_from =
          std::max<int64_t>(0, request_.prompt_tokens - watch_->last_prompt_logits);
    }
    return absl::OkStatus();
  }

  // From a submission to its end. False: preempted, and to be submitted again.
  absl::StatusOr<bool> Attempt() {
    const size_t tokens_before = reply_.tokens.size();
    submitted_ = first_token_ = Now();
    const int64_t room = model_.max_positions() - request_.prompt_tokens;
    Mailbox mailbox(std::min(room, request_.sampling.max_new_tokens), watch_);
    ASSIGN_OR_RETURN(const SequenceId id, model_.engine().Submit(request_, mailbox));
    owner_.running_ = id;
    if (owner_.cancelled_) Stop(id);
    HandInRows(id);
    const absl::StatusOr<Finish> finish = Receive(id, mailbox);
    owner_.running_ = -1;
    request_.again = id;

    RETURN_IF_ERROR(failure_);
    if (absl::IsAborted(finish.status()) && !text_->stopped()) return false;
    // Whoever was told to stop ends with CANCELLED, and what it did so far has to be measured from
    // here.
    if (finish.ok()) {
      reply_.bill.Add(BillStage::kQueue, finish->submitted, finish->started);
      reply_.bill.Add(BillStage::kPrefill, finish->started, finish->prompt_done);
      reply_.bill.Add(BillStage::kDecode, finish->prompt_done, finish->ended);
    } else {
      const bool any = reply_.tokens.size() > tokens_before;
      const absl::Time prompt_done = any ? first_token_ : Now();
      reply_.bill.Add(BillStage::kPrefill, submitted_, prompt_done);
      reply_.bill.Add(BillStage::kDecode, prompt_done, Now());
    }
    if (text_->stopped()) {
      reply_.end = ReplyEnd::kStop;
    } else if (finish.ok()) {
      reply_.end = finish->reason == FinishReason::kStop ? ReplyEnd::kStop : ReplyEnd::kLength;
    } else if (absl::IsCancelled(finish.status()) && owner_.cancelled_) {
      reply_.end = ReplyEnd::kCancelled;
    } else {
      return finish.status();
    }
    return true;
  }

  void HandInRows(SequenceId id) {
    for (size_t i = 0; i < prompt_.spans.size() && !owner_.cancelled_; ++i) {
      const Prompt::Span& span = prompt_.spans[i];
      const absl::StatusOr<ConstTensorView> made =
          rows_.Encode(conversation_.pictures, span.image, span.sub_image, reply_.bill);
      if (!made.ok()) {
        failure_ = made.status();
        return Stop(id);
      }
      const absl::Time start = Now();
      model_.engine().ProvideRows(id, static_cast<int64_t>(i), *made);
      reply_.bill.Add(BillStage::kTransfer, start, Now());
    }
  }

  absl::StatusOr<Finish> Receive(SequenceId id, Mailbox& mailbox) {
    const std::vector<int32_t>& stops = request_.sampling.stop_ids;
    while (true) {
      Mailbox::Event event = mailbox.Take();
      if (auto* const finish = std::get_if<absl::StatusOr<Finish>>(&event)) {
        return *std::move(finish);
      }
      if (text_->stopped() || !failure_.ok()) continue;  // chosen before the engine heard of it
      if (submitted_ == first_token_) first_token_ = Now();
      const int32_t token = std::get<int32_t>(event);
      reply_.tokens.push_back(token);
      if (std::find(stops.begin(), stops.end(), token) != stops.end()) continue;
      Send(text_->Push(token));
      if (text_->stopped() || !failure_.ok()) Stop(id);
    }
  }

  void Send(const std::string& piece) {
    if (piece.empty() || !failure_.ok()) return;
    reply_.text += piece;
    failure_ = sink_(piece);
  }

  void Stop(SequenceId id) { model_.engine().Cancel(id); }

  LocalReply& owner_;
  LocalModel& model_;
  const Conversation& conversation_;
  const ReplyOptions& options_;
  PictureRows& rows_;
  const absl::FunctionRef<absl::Status(absl::string_view)> sink_;
  const ReplyWatch* const watch_;

  Prompt prompt_;
  SequenceRequest request_;
  std::optional<ReplyText> text_;
  Reply reply_;
  absl::Status failure_;  // of the sink or of a picture: the engine is told to stop, and this is
                          // what comes out
  absl::Time submitted_, first_token_;
};

absl::StatusOr<Prompt> LocalReply::Lay(const Conversation& conversation,
                                       const ReplyOptions& options, PictureRows& rows) const {
  const ModelSpec& spec = model_.spec();
  RETURN_IF_ERROR(rows.Plan(conversation.pictures));
  PromptOptions layout;
  layout.image_ids = spec.preprocess.image_ids && options.image_ids;
  layout.tags = options.tags;
  layout.drop_token_zero = options.reference_quirks;
  ASSIGN_OR_RETURN(Prompt prompt,
                   model_.prompts().Build(conversation.messages, rows.plans(), layout));
  const int64_t limit = PromptLimit(options, model_);
  if (static_cast<int64_t>(prompt.tokens.size()) > limit) {
    return absl::InvalidArgumentError(
        absl::StrCat("the prompt has ", prompt.tokens.size(), " tokens, more than the ", limit,
                     " allowed here (--max-prompt-tokens; context and --pages have room for ",
                     model_.max_positions(), ")"));
  }
  return prompt;
}

absl::StatusOr<Reply> LocalReply::Run(const Conversation& conversation, const ReplyOptions& options,
                                      PictureRows& rows,
                                      absl::FunctionRef<absl::Status(absl::string_view)> sink,
                                      const ReplyWatch* watch) {
  cancelled_ = false;
  return Flow(*this, conversation, options, rows, sink, watch).Run();
}

void LocalReply::Cancel() {
  cancelled_ = true;
  if (const SequenceId id = running_; id >= 0) model_.engine().Cancel(id);
}

}  // namespace minicpmv
