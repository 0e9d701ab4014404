#include "services/prefill/prefill_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/base/tracing.h"
#include "services/common/bills.h"
#include "services/common/links.h"
#include "services/common/status_proto.h"
#include "services/common/test_points.h"

namespace minicpmv::prefill {
namespace {

// What a parcel that did not land means for its call: the receiver or one of the three numbers is
// no more, or the way there is broken. Whatever it is, another call may go better.
absl::Status WhyPagesDidNotLand(const absl::Status& ticket) {
  const std::string words = absl::StrCat("pages did not land: ", ticket.message());
  if (absl::IsAborted(ticket)) return absl::AbortedError(words);
  return absl::UnavailableError(words);
}

}  // namespace

PrefillCall::PrefillCall(EngineRoom& room, OpenCalls& calls, std::shared_ptr<Stream> stream,
                         PrefillJob job, TraceContext trace)
    : room_(room),
      open_(calls),
      stream_(std::move(stream)),
      handed_(room.clock().Now()),
      work_{job.request.id, std::move(trace)},
      spans_(job.request.spans),
      tokens_(static_cast<int64_t>(job.request.tokens.size()) - 1),
      send_from_(job.request.send_from),
      job_(std::move(job)) {}

void PrefillCall::Start(const v1::PrefillPromptRequest& request,
                        std::unique_ptr<Worker::Call> admitted) {
  const std::shared_ptr<PrefillCall> self = shared_from_this();
  admitted_ = std::move(admitted);
  room_.AddOutstanding(tokens_);
  absl::StatusOr<SequenceId> id;
  {
    // What the engine tells before this returns waits for the id.
    const std::lock_guard<std::mutex> lock(mutex_);
    self_ = self;
    id = Submit(request);
    if (id.ok()) id_ = *id;
  }
  if (!id.ok()) {
    OnEnd(id.status());
    return;
  }
  stream_->OnGone([self] { self->End(absl::CancelledError("the caller has gone")); });
}

absl::StatusOr<SequenceId> PrefillCall::Submit(const v1::PrefillPromptRequest& request) {
  const common::v1::Destination& destination = request.destination();
  if (is_cancelled_) return failure_;
  if (destination.worker_id() == room_.worker().id()) return Adopt(request);
  ASSIGN_OR_RETURN(Link* const link, room_.worker().links().To(destination));
  PageSender::Options options;
  options.landing = job_.landing;
  options.dtype = room_.model().row_dtype();
  options.layers = room_.model().spec().language.layers;
  options.from = send_from_;
  options.to = tokens_;
  options.work = work_;
  options.told = [this](const absl::Status& status) { OnParcel(status); };
  sender_ = std::make_unique<PageSender>(*link, room_.clock(), std::move(options));
  return room_.engine().SubmitPrefill(std::move(job_.request), *this);
}

absl::StatusOr<SequenceId> PrefillCall::Adopt(const v1::PrefillPromptRequest& request) {
  if (job_.landing.incarnation != room_.worker().incarnation()) {
    return absl::AbortedError("the landing is of an earlier life of this worker");
  }
  own_ = room_.own_landings().Find(job_.landing.slot);
  if (own_ == nullptr) {
    return absl::AbortedError(
        absl::StrCat("there is no landing ", job_.landing.slot, " (any more)"));
  }
  return own_->Compute(request.prompt(), *this);
}

void PrefillCall::End(const absl::Status& status) {
  SequenceId id;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (failure_.ok()) failure_ = status;
    if (std::exchange(is_cancelled_, true) || status_.has_value()) return;
    id = id_;
  }
  CloseSlot();
  if (id < 0) return;  // Start will see
  if (own_ != nullptr) {
    own_->GiveUp();
    return;
  }
  room_.engine().Cancel(id);
  sender_->Drop();
}

void PrefillCall::CloseSlot() {
  uint64_t slot;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    slot = std::exchange(slot_, 0);
  }
  // Rows that are being placed keep their places, and this, until then.
  if (slot != 0) room_.worker().landings().Close(slot, [self = shared_from_this()] {});
}

void PrefillCall::OnAdmitted(int64_t held_tokens) {
  absl::Status made;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_cancelled_) return;
    absl::StatusOr<RowsArrivals> rows =
        RowsArrivals::Create(room_.model().first_device(), spans_, held_tokens,
                             room_.model().spec().language.hidden, room_.model().row_dtype());
    made = rows.status();
    if (made.ok()) {
      rows_.emplace(*std::move(rows));
      held_ = computed_ = held_tokens;
      computed_at_ = room_.clock().Now();
      told_.set_computed_tokens(static_cast<uint32_t>(held_));
      told_.set_landed_tokens(static_cast<uint32_t>(own_ == nullptr ? send_from_ : held_));
      slot_ = room_.worker().landings().Open(*this).slot;
      const Incarnation& incarnation = room_.worker().incarnation();
      common::v1::Landing& landing = *landing_.emplace().mutable_landing();
      landing.set_incarnation(incarnation.data(), incarnation.size());
      landing.set_slot(slot_);
      landing.set_held_tokens(static_cast<uint32_t>(held_));
    }
  }
  if (!made.ok()) {
    End(made);
    return;
  }
  room_.AddOutstanding(-held_tokens);
  Tell();
  TestPoint("prefill.opened", work_.request_id);
}

absl::StatusOr<std::vector<TensorView>> PrefillCall::Place(const ParcelLabel& label) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return rows_->Place(label);
}

void PrefillCall::Landed(const ParcelLabel& label, const absl::Status& status) {
  SequenceId id;
  std::optional<ConstTensorView> rows;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    rows = rows_->Landed(label, status.ok());
    id = id_;
  }
  if (!rows) return;
  room_.engine().ProvideRows(id, label.index, *rows);
  Tell();
}

void PrefillCall::OnPages(PageRun run, absl::AnyInvocable<void()> sent) {
  sender_->Send(std::move(run), std::move(sent));
}

void PrefillCall::OnParcel(const absl::Status& status) {
  if (!status.ok()) {
    End(WhyPagesDidNotLand(status));
    return;
  }
  const PageSender::Sums sums = sender_->sums();
  bool is_half = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_half = 2 * sums.landed_pages >= sums.awaited_pages && !std::exchange(is_half_landed_, true);
  }
  if (is_half) TestPoint("prefill.pages_half_landed", work_.request_id);
  Tell();
}

void PrefillCall::OnComputed(int64_t tokens) {
  const absl::Time now = room_.clock().Now();
  absl::Time start;
  int64_t more, steps;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    more = tokens - std::exchange(computed_, tokens);
    start = std::exchange(computed_at_, now);
    steps = ++steps_;
  }
  if (IsTracing()) {
    start = std::max(start, now - room_.engine().stats().last_step);
    TracePart(TraceRow::kPrefill, "chunk", start, now, work_,
              {{"first", tokens - more}, {"positions", more}});
  }
  room_.AddOutstanding(-more);
  Tell();
  if (steps == 2) TestPoint("prefill.chunk_2", work_.request_id);
  told_busy_ += room_.clock().Now() - now;
}

void PrefillCall::OnEnd(absl::StatusOr<Finish> finish) {
  std::shared_ptr<PrefillCall> self;
  CloseSlot();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    self = std::move(self_);
    is_cancelled_ = true;  // from now on nobody's business
    room_.AddOutstanding(computed_ - tokens_);
  }
  room_.CountEnding(finish.status());
  Count();
  TraceWork(TraceRow::kRequest, "PrefillPrompt", handed_, kNow, work_,
            {{"positions", tokens_},
             {"held", held_},
             {"spans", static_cast<int64_t>(spans_.size())},
             {"error", finish.ok() ? "" : absl::StatusCodeToString(finish.status().code())}});
  admitted_.reset();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    status_ = StatusOf(finish.status());
    if (status_->ok()) FillBill(*finish, *done_.emplace().mutable_done()->mutable_bill());
  }
  Tell();
}

absl::Status PrefillCall::StatusOf(absl::Status finish) const {
  // A prompt that is computed, but did not land, is of no use.
  if (!failure_.ok()) return failure_;
  if (absl::IsAborted(finish)) return WithReason(std::move(finish), "PREEMPTED");
  if (own_ != nullptr && (absl::IsCancelled(finish) || absl::IsNotFound(finish))) {
    return absl::AbortedError("the call that the landing belongs to has ended");
  }
  return finish;
}

void PrefillCall::Tell() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (is_telling_) return;  // whoever does will see what is new
  is_telling_ = true;
  while (std::optional<v1::PrefillPromptResponse> message = NextMessage()) {
    lock.unlock();
    stream_->Send(*std::move(message));
    lock.lock();
  }
  is_telling_ = false;
  if (!status_) return;
  const absl::Status status = *status_;
  lock.unlock();
  stream_->End(status);
}

std::optional<v1::PrefillPromptResponse> PrefillCall::NextMessage() {
  if (landing_) return std::exchange(landing_, std::nullopt);
  if (!rows_) return std::nullopt;
  v1::PrefillProgress progress;
  const int64_t landed = own_ != nullptr ? computed_ : sender_->sums().landed_tokens;
  progress.set_computed_tokens(static_cast<uint32_t>(computed_));
  progress.set_landed_tokens(static_cast<uint32_t>(landed));
  progress.set_landed_spans(static_cast<uint32_t>(rows_->landed_spans()));
  if (progress.computed_tokens() > told_.computed_tokens() ||
      progress.landed_tokens() > told_.landed_tokens() ||
      progress.landed_spans() > told_.landed_spans()) {
    told_ = progress;
    v1::PrefillPromptResponse message;
    *message.mutable_progress() = std::move(progress);
    return message;
  }
  return std::exchange(done_, std::nullopt);
}

void PrefillCall::FillBill(const Finish& finish, common::v1::Bill& bill) const {
  // Of the engine's times only differences are used: its clock may start elsewhere.
  const absl::Duration end = computed_at_ - handed_;
  const absl::Duration start =
      std::max(absl::ZeroDuration(), end - (finish.prompt_done - finish.started));
  AddLine(bill, common::v1::WORK_QUEUE, absl::ZeroDuration(), start, start);
  AddLine(bill, common::v1::WORK_PREFILL, start, end, finish.busy + told_busy_);
  bill.set_cached_tokens(static_cast<uint32_t>(held_));
  if (sender_ == nullptr) return;
  const PageSender::Sums sums = sender_->sums();
  bill.set_sent_bytes(sums.bytes);
  AddLine(bill, common::v1::WORK_TRANSFER, sums.first_start - handed_, sums.last_end - handed_,
          sums.busy);
}

void PrefillCall::Count() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  int64_t media = 0;
  for (const SequenceRequest::Span& span : spans_) {
    const int64_t first = std::max(span.first, held_);
    const int64_t end = std::min(span.first + span.count, computed_);
    media += std::max<int64_t>(0, end - first);
  }
  room_.CountPrompt(computed_ - held_ - media, media, held_);
}

}  // namespace minicpmv::prefill
