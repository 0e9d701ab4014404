#include "tests/services/router/simulated_calls.h"

#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/common/incarnation.h"
#include "services/common/read_prompt.h"
#include "tests/services/router/fake_model.h"

namespace minicpmv::router {
namespace {

constexpr int64_t kMaxPositions = 1 << 20;
constexpr uint64_t kMostPagesOfAParcel = 4;

// The one number that a span's rows are.
TensorView RowsView(uint64_t& rows) { return {&rows, DType::kF32, Shape{1, 2}}; }

}  // namespace

void SimulatedFleet::PutCall::Arrive() {
  if (IsRefused()) return;
  Later(fleet_.Between(1, 50), [this] {
    process_->media_.emplace(scope_, digest_);
    if (fleet_.Happens(fleet_.options_.forgets_media)) process_->media_.clear();
    Tell(fleet_.options_.media(digest_));
    End(absl::OkStatus());
  });
}

void SimulatedFleet::EncodeCall::Arrive() {
  if (request_.spans().empty()) fleet_.Complain("nothing is to be encoded");
  if (IsRefused()) return;
  if (request_.has_held()) {
    const auto key = std::pair(request_.scope().cache_scope(), request_.media_digest());
    if (!process_->media_.contains(key)) return End(absl::NotFoundError("no such medium"));
  }
  vision::v1::EncodeMediaResponse response;
  *response.mutable_landing() = GrantLanding(0);
  Tell(std::move(response));
  if (request_.has_held()) Later(fleet_.Between(1, 20), [this] { SendPixels(); });
}

absl::StatusOr<std::vector<TensorView>> SimulatedFleet::EncodeCall::Place(
    const ParcelLabel& label) {
  if (label.kind != ParcelKind::kPixels || request_.has_held()) {
    return absl::InvalidArgumentError("no pixels are awaited");
  }
  return std::vector<TensorView>();
}

void SimulatedFleet::EncodeCall::Landed(const ParcelLabel& /*label*/, const absl::Status& status) {
  if (status.ok()) EncodeNext(0);
}

void SimulatedFleet::EncodeCall::SendPixels() {
  for (const vision::v1::PixelHelper& helper : request_.held().helpers()) {
    ParcelLabel label;
    label.kind = ParcelKind::kPixels;
    process_->Send(helper.destination(), label, {},
                   [self = shared_from_this(), this](const absl::Status& status) {
                     if (process_ != nullptr && !status.ok()) {
                       End(absl::UnavailableError("a helper is gone"));
                     }
                   });
  }
  EncodeNext(0);
}

void SimulatedFleet::EncodeCall::EncodeNext(int next) {
  if (next < request_.spans_size()) {
    return Later(fleet_.Between(5, 40), [this, next] { SendRows(next); });
  }
  vision::v1::EncodeMediaResponse response;
  response.mutable_done();
  Tell(std::move(response));
  End(absl::OkStatus());
}

void SimulatedFleet::EncodeCall::SendRows(int next) {
  const vision::v1::IndexedSpan& span = request_.spans(next);
  rows_ = FakeRows(ContentOf(span.span()));
  ParcelLabel label;
  label.kind = ParcelKind::kRows;
  label.index = span.index();
  process_->Send(request_.destination(), label, {RowsView(rows_)},
                 [self = shared_from_this(), this, next](const absl::Status& status) {
                   if (process_ == nullptr) return;
                   if (!status.ok()) return End(absl::UnavailableError("the destination is gone"));
                   vision::v1::EncodeMediaResponse response;
                   response.mutable_slice()->set_span_index(request_.spans(next).index());
                   response.mutable_slice()->set_step(vision::v1::SliceProgress::STEP_MADE_ROWS);
                   Tell(std::move(response));
                   EncodeNext(next + 1);
                 });
}

void SimulatedFleet::PrefillCall::Arrive() {
  if (request_.prompt().tokens_size() < 2) {
    fleet_.Complain("a prompt of one token needs no prefill");
  }
  if (IsRefused()) return;
  const bool is_own = request_.destination().worker_id() == process_->id_;
  const absl::StatusOr<SequenceId> id = is_own ? Adopt() : Submit();
  if (!id.ok()) return End(id.status());
  id_ = *id;
}

absl::StatusOr<SequenceId> SimulatedFleet::PrefillCall::Submit() {
  ASSIGN_OR_RETURN(PromptParts parts,
                   ReadPrompt(request_.prompt(), fleet_.options_.vocabulary, kMaxPositions));
  PrefillRequest request;
  request.tokens = std::move(parts.tokens);
  request.spans = std::move(parts.spans);
  request.cache_scope = request_.scope().cache_scope();
  request.send_from = request_.destination().landing().held_tokens();
  return process_->engine_->SubmitPrefill(std::move(request), Observer());
}

absl::StatusOr<SequenceId> SimulatedFleet::PrefillCall::Adopt() {
  const common::v1::Landing& landing = request_.destination().landing();
  if (landing.incarnation() != BytesOf(process_->incarnation_)) {
    return absl::AbortedError("the landing is of an earlier life");
  }
  own_ = process_->own_landings_->Find(landing.slot());
  if (own_ == nullptr) return absl::AbortedError("there is no such landing (any more)");
  return own_->Compute(request_.prompt(), *this);
}

void SimulatedFleet::PrefillCall::Fail(const absl::Status& status) {
  if (failure_.ok()) failure_ = status;
  if (std::exchange(is_cancelled_, true)) return;
  CloseSlot();
  if (id_ == 0) return Close();
  if (own_ != nullptr) return own_->GiveUp();
  process_->engine_->Cancel(id_);
}

void SimulatedFleet::PrefillCall::OnAdmitted(int64_t held_tokens) {
  if (is_cancelled_) return;
  fleet_.seen_.held_tokens += held_tokens;
  const auto& spans = request_.prompt().spans();
  rows_.resize(spans.size());
  for (int i = 0; i < spans.size(); ++i) {
    if (int64_t{spans[i].first_token()} + spans[i].rows() > held_tokens) missing_.insert(i);
  }
  prefill::v1::PrefillPromptResponse response;
  *response.mutable_landing() = GrantLanding(held_tokens);
  Tell(std::move(response));
}

absl::StatusOr<std::vector<TensorView>> SimulatedFleet::PrefillCall::Place(
    const ParcelLabel& label) {
  if (label.kind != ParcelKind::kRows || missing_.erase(label.index) == 0) {
    return absl::InvalidArgumentError("rows that were not missing");
  }
  return std::vector<TensorView>{RowsView(rows_[label.index])};
}

void SimulatedFleet::PrefillCall::Landed(const ParcelLabel& label, const absl::Status& status) {
  if (process_ == nullptr) return;  // it ended meanwhile
  if (status.ok()) {
    process_->engine_->ProvideRows(id_, label.index, rows_[label.index]);
  } else {
    missing_.insert(label.index);
  }
}

void SimulatedFleet::PrefillCall::OnPages(PageRun run, absl::AnyInvocable<void()> sent) {
  if (is_cancelled_) return sent();
  struct Run {
    absl::AnyInvocable<void()> sent;
    int64_t parcels = 0;
  };
  const auto shared = std::make_shared<Run>();
  shared->sent = std::move(sent);
  const int64_t pages = static_cast<int64_t>(run.pages.size());
  int64_t count = 0;
  for (int64_t first = 0; first < pages; first += count) {
    count = std::min<int64_t>(pages - first, 1 + fleet_.random_() % kMostPagesOfAParcel);
    ParcelLabel label;
    label.kind = ParcelKind::kPages;
    label.index = run.layer;
    label.first = run.first + first * kPageSize;
    label.count = std::min(count * kPageSize, run.count - first * kPageSize);
    ++shared->parcels;
    process_->Send(request_.destination(), label,
                   {run.pages.begin() + first, run.pages.begin() + first + count},
                   [self = shared_from_this(), this, shared](const absl::Status& status) {
                     ++(status.ok() ? fleet_.seen_.landed : fleet_.seen_.lost);
                     if (absl::IsAborted(status)) Fail(status);
                     if (!status.ok()) Fail(absl::UnavailableError("pages did not land"));
                     if (--shared->parcels == 0) shared->sent();
                   });
  }
}

void SimulatedFleet::PrefillCall::OnEnd(absl::StatusOr<Finish> finish) {
  is_cancelled_ = true;
  fleet_.seen_.preempted += absl::IsAborted(finish.status());
  const absl::Status status = StatusOf(finish.status());
  if (status.ok()) {
    prefill::v1::PrefillPromptResponse response;
    response.mutable_done();
    Tell(std::move(response));
  }
  End(status);
}

absl::Status SimulatedFleet::PrefillCall::StatusOf(absl::Status finish) const {
  if (!failure_.ok()) return failure_;
  if (absl::IsAborted(finish)) return WithReason(std::move(finish), "PREEMPTED");
  if (own_ != nullptr && (absl::IsCancelled(finish) || absl::IsNotFound(finish))) {
    return absl::AbortedError("the call that the landing belongs to has ended");
  }
  return finish;
}

void SimulatedFleet::DecodeCall::Arrive() {
  const common::v1::Prompt& prompt = request_.prompt();
  absl::StatusOr<PromptParts> parts = ReadPrompt(prompt, fleet_.options_.vocabulary, kMaxPositions);
  if (!parts.ok()) fleet_.Complain(std::string(parts.status().message()));
  new_tokens_ = static_cast<uint32_t>(prompt.tokens_size()) - prompt.prompt_tokens();
  if (new_tokens_ >= request_.limits().max_new_tokens()) fleet_.Complain("no token is wanted");
  if (IsRefused()) return;
  SequenceRequest request;
  request.tokens = std::move(parts->tokens);
  request.prompt_tokens = parts->prompt_tokens;
  request.spans = std::move(parts->spans);
  request.cache_scope = request_.scope().cache_scope();
  request.sampling.max_new_tokens = request_.limits().max_new_tokens();
  request.sampling.seed = request_.sampling().seed();
  id_ = process_->engine_->SubmitLanding(std::move(request), {shared_from_this(), this});
}

void SimulatedFleet::DecodeCall::GiveUp() {
  if (process_ == nullptr) return;
  if (failure_.ok()) failure_ = absl::AbortedError("given up");
  if (id_ == 0) return Close();
  Cancel();
}

void SimulatedFleet::DecodeCall::Cancel() {
  is_cancelled_ = true;
  if (slot_state_ == SlotState::kOpen) return CloseOpenSlot();
  if (slot_state_ != SlotState::kClosing) process_->engine_->Cancel(id_);
}

void SimulatedFleet::DecodeCall::CloseOpenSlot() {
  slot_state_ = SlotState::kClosing;
  CloseSlot();
}

void SimulatedFleet::DecodeCall::OnSlotClosed() {
  process_->own_landings_->Remove(own_slot_);
  slot_state_ = SlotState::kClosed;
  if (adopter_ != nullptr) {
    process_->engine_->ComputeLanding(id_, std::exchange(adopter_, nullptr));
  } else if (!is_cancelled_) {
    process_->engine_->PagesLanded(id_);
  }
  if (is_cancelled_) process_->engine_->Cancel(id_);
}

void SimulatedFleet::DecodeCall::OnAdmitted(LandingPages pages) {
  if (is_cancelled_) return;
  fleet_.seen_.held_tokens += pages.held_tokens();
  arrivals_.emplace(std::move(pages), DType::kF32);
  decode::v1::DecodeSequenceResponse response;
  *response.mutable_landing() = GrantLanding(arrivals_->held_tokens());
  slot_state_ = SlotState::kOpen;
  own_slot_ = slot_;
  process_->own_landings_->Add(own_slot_, {shared_from_this(), this});
  Tell(std::move(response));
  if (arrivals_->complete()) CloseOpenSlot();
}

absl::StatusOr<std::vector<TensorView>> SimulatedFleet::DecodeCall::Place(
    const ParcelLabel& label) {
  return arrivals_->Place(label);
}

void SimulatedFleet::DecodeCall::Landed(const ParcelLabel& label, const absl::Status& status) {
  arrivals_->Landed(label, status.ok());
  if (slot_state_ == SlotState::kOpen && arrivals_->complete()) CloseOpenSlot();
}

absl::StatusOr<SequenceId> SimulatedFleet::DecodeCall::Compute(const common::v1::Prompt& prompt,
                                                               PrefillObserver& observer) {
  if (prompt.SerializeAsString() != request_.prompt().SerializeAsString()) {
    return absl::InvalidArgumentError("not the prompt that the landing was opened for");
  }
  if (slot_state_ != SlotState::kOpen) return absl::AbortedError("the landing is not open");
  ++fleet_.seen_.adopted;
  adopter_ = static_cast<PrefillCall&>(observer).Observer();
  CloseOpenSlot();
  return id_;
}

void SimulatedFleet::DecodeCall::OnRecalled() {
  ++fleet_.seen_.recalled;
  Cancel();
}

void SimulatedFleet::DecodeCall::OnToken(int32_t token) {
  decode::v1::DecodeSequenceResponse response;
  response.mutable_tokens()->add_tokens(static_cast<uint32_t>(token));
  response.mutable_tokens()->set_first_index(new_tokens_++);
  Tell(std::move(response));
}

void SimulatedFleet::DecodeCall::OnEnd(absl::StatusOr<Finish> finish) {
  CHECK(slot_state_ == SlotState::kNone || slot_state_ == SlotState::kClosed)
      << "ended with a slot that is open";
  absl::Status status = finish.status();
  fleet_.seen_.preempted += absl::IsAborted(status);
  if (absl::IsAborted(status)) status = WithReason(std::move(status), "PREEMPTED");
  if (!status.ok() && !failure_.ok()) status = failure_;
  if (status.ok()) {
    decode::v1::DecodeSequenceResponse response;
    response.mutable_ending()->set_reason(finish->reason == FinishReason::kStop
                                              ? decode::v1::Ending::REASON_STOP
                                              : decode::v1::Ending::REASON_LENGTH);
    response.mutable_ending()->set_new_tokens(new_tokens_);
    Tell(std::move(response));
  }
  End(status);
}

}  // namespace minicpmv::router
