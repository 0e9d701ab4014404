#include "services/decode/decode_call.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/tracing.h"
#include "services/common/bills.h"
#include "services/common/durations.h"
#include "services/common/status_proto.h"
#include "services/common/test_points.h"

namespace minicpmv::decode {

DecodeCall::DecodeCall(EngineRoom& room, OpenCalls& calls, std::shared_ptr<Stream> stream,
                       const common::v1::Prompt& prompt, SequenceRequest request,
                       TraceContext trace)
    : room_(room),
      open_(calls),
      stream_(std::move(stream)),
      prompt_(prompt.SerializeAsString()),
      handed_(room.clock().Now()),
      work_{request.id, std::move(trace)},
      request_(std::move(request)),
      generated_(static_cast<uint32_t>(static_cast<int64_t>(request_.tokens.size()) -
                                       request_.prompt_tokens)) {}

void DecodeCall::Start(std::unique_ptr<Worker::Call> admitted) {
  const std::shared_ptr<DecodeCall> self = shared_from_this();
  admitted_ = std::move(admitted);
  absl::StatusOr<SequenceId> id;
  {
    // What the engine tells before this returns waits for the id.
    const std::lock_guard<std::mutex> lock(mutex_);
    self_ = self;
    id = room_.engine().SubmitLanding(std::move(request_), *this);
    if (id.ok()) {
      id_ = *id;
      if (is_cancelled_) room_.engine().Cancel(id_);
    }
  }
  if (!id.ok()) {
    OnEnd(id.status());
    return;
  }
  stream_->OnGone([self] { self->End(absl::CancelledError("the caller has gone")); });
}

void DecodeCall::End(const absl::Status& status) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (failure_.ok()) failure_ = status;
  Cancel(std::move(lock));
}

void DecodeCall::Cancel(std::unique_lock<std::mutex> lock) {
  is_cancelled_ = true;
  switch (slot_state_) {
    case SlotState::kOpen:
      CloseSlot(std::move(lock));
      return;
    case SlotState::kClosing:
      return;  // OnClosed will tell
    case SlotState::kNone:
    case SlotState::kClosed:
      break;
  }
  const SequenceId id = id_;
  lock.unlock();
  if (id >= 0) room_.engine().Cancel(id);
}

void DecodeCall::CloseSlot(std::unique_lock<std::mutex> lock) {
  slot_state_ = SlotState::kClosing;
  const uint64_t slot = slot_;
  lock.unlock();
  room_.worker().landings().Close(slot, [self = shared_from_this()] { self->OnClosed(); });
}

void DecodeCall::OnClosed() {
  room_.own_landings().Remove(slot_);
  SequenceId id;
  bool is_cancelled;
  PrefillObserver* adopter;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    slot_state_ = SlotState::kClosed;
    landed_at_ = room_.clock().Now();
    TracePart(TraceRow::kTransfer, "awaits pages", admitted_at_, landed_at_, work_);
    id = id_;
    is_cancelled = is_cancelled_;
    adopter = adopter_;
  }
  if (adopter != nullptr) {
    room_.engine().ComputeLanding(id, *adopter);
  } else if (!is_cancelled) {
    room_.engine().PagesLanded(id);
  }
  if (is_cancelled) room_.engine().Cancel(id);
}

void DecodeCall::OnAdmitted(LandingPages pages) {
  v1::DecodeSequenceResponse response;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    admitted_at_ = room_.clock().Now();
    if (is_cancelled_) return;
    arrivals_.emplace(std::move(pages), room_.model().row_dtype());
    slot_ = room_.worker().landings().Open(*this).slot;
    slot_state_ = SlotState::kOpen;
    const Incarnation& incarnation = room_.worker().incarnation();
    common::v1::Landing& landing = *response.mutable_landing();
    landing.set_incarnation(incarnation.data(), incarnation.size());
    landing.set_slot(slot_);
    landing.set_held_tokens(static_cast<uint32_t>(arrivals_->held_tokens()));
    room_.own_landings().Add(slot_, shared_from_this());
  }
  stream_->Send(std::move(response));
  TestPoint("decode.opened", work_.request_id);
  std::unique_lock<std::mutex> lock(mutex_);
  if (slot_state_ == SlotState::kOpen && arrivals_->complete()) CloseSlot(std::move(lock));
}

void DecodeCall::OnRecalled() { Cancel(std::unique_lock<std::mutex>(mutex_)); }

absl::StatusOr<std::vector<TensorView>> DecodeCall::Place(const ParcelLabel& label) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return arrivals_->Place(label);
}

void DecodeCall::Landed(const ParcelLabel& label, const absl::Status& status) {
  std::unique_lock<std::mutex> lock(mutex_);
  arrivals_->Landed(label, status.ok());
  const bool is_half = 2 * arrivals_->landed() >= arrivals_->awaited();
  if (is_half && !std::exchange(is_half_landed_, true)) {
    lock.unlock();
    TestPoint("decode.pages_half_landed", work_.request_id);
    lock.lock();
  }
  if (slot_state_ == SlotState::kOpen && arrivals_->complete()) CloseSlot(std::move(lock));
}

absl::StatusOr<SequenceId> DecodeCall::Compute(const common::v1::Prompt& prompt,
                                               PrefillObserver& observer) {
  if (prompt.SerializeAsString() != prompt_) {
    return absl::InvalidArgumentError("prompt is not the one that the landing was opened for");
  }
  std::unique_lock<std::mutex> lock(mutex_);
  if (slot_state_ != SlotState::kOpen) {
    return absl::AbortedError("the landing is no longer open");
  }
  const SequenceId id = id_;
  adopter_ = &observer;
  CloseSlot(std::move(lock));
  return id;
}

void DecodeCall::GiveUp() { End(absl::AbortedError("the prefill of its prompt was given up")); }

void DecodeCall::OnToken(int32_t token) {
  const absl::Time now = room_.clock().Now();
  absl::Time start = std::max(step_end_, now - room_.engine().stats().last_step);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    start = std::max(start, landed_at_);
  }
  if (busy_ == absl::ZeroDuration()) first_step_start_ = start;
  step_end_ = now;
  busy_ += now - start;
  TracePart(TraceRow::kDecode, "token", start, now, work_, {{"index", int64_t{generated_}}});

  v1::DecodeSequenceResponse response;
  v1::Tokens& tokens = *response.mutable_tokens();
  tokens.add_tokens(static_cast<uint32_t>(token));
  tokens.set_first_index(generated_++);
  *tokens.mutable_step_start() = ToProto(start - handed_);
  *tokens.mutable_step_end() = ToProto(now - handed_);
  room_.CountToken();
  stream_->Send(std::move(response));
  if (generated_ == 1) TestPoint("decode.token_1", work_.request_id);
  if (generated_ == 20) TestPoint("decode.token_20", work_.request_id);
  busy_ += room_.clock().Now() - now;
}

void DecodeCall::OnEnd(absl::StatusOr<Finish> finish) {
  std::shared_ptr<DecodeCall> self;
  absl::Status status = finish.status();
  v1::DecodeSequenceResponse response;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    CHECK(slot_state_ == SlotState::kNone || slot_state_ == SlotState::kClosed)
        << "ended with a slot that is open";
    self = std::move(self_);
    if (absl::IsAborted(status)) status = WithReason(std::move(status), "PREEMPTED");
    if (!status.ok() && !failure_.ok()) status = failure_;
    if (status.ok()) FillEnding(*finish, *response.mutable_ending());
  }
  if (status.ok()) TestPoint("decode.ending", work_.request_id);
  room_.CountEnding(finish.status());
  TraceWork(TraceRow::kRequest, "DecodeSequence", handed_, kNow, work_,
            {{"tokens", int64_t{generated_}},
             {"error", status.ok() ? "" : absl::StatusCodeToString(status.code())}});
  admitted_.reset();
  if (status.ok()) stream_->Send(std::move(response));
  stream_->End(status);
}

void DecodeCall::FillEnding(const Finish& finish, v1::Ending& ending) const {
  ending.set_reason(finish.reason == FinishReason::kStop ? v1::Ending::REASON_STOP
                                                         : v1::Ending::REASON_LENGTH);
  ending.set_new_tokens(generated_);
  common::v1::Bill& bill = *ending.mutable_bill();
  const absl::Duration queue = admitted_at_ - handed_;
  AddLine(bill, common::v1::WORK_QUEUE, absl::ZeroDuration(), queue, queue);
  AddLine(bill, common::v1::WORK_DECODE, first_step_start_ - handed_, step_end_ - handed_, busy_);
  bill.set_cached_tokens(static_cast<uint32_t>(arrivals_->held_tokens()));
}

}  // namespace minicpmv::decode
