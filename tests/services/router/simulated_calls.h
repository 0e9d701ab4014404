#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "services/decode/page_arrivals.h"
#include "tests/services/router/simulated_process.h"

namespace minicpmv::router {

// The calls of the stages, as services/ run them, on a simulated engine.

class SimulatedFleet::PutCall final : public CallOf<common::v1::MediaInfo> {
 public:
  PutCall(SimulatedFleet& fleet, std::string scope, std::string digest,
          Told<common::v1::MediaInfo> told)
      : CallOf(fleet, common::v1::ROLE_VISION, std::move(told)),
        scope_(std::move(scope)),
        digest_(std::move(digest)) {}

  void Arrive() override;

 private:
  const std::string scope_, digest_;
};

class SimulatedFleet::EncodeCall final : public CallOf<vision::v1::EncodeMediaResponse> {
 public:
  EncodeCall(SimulatedFleet& fleet, vision::v1::EncodeMediaRequest request,
             Told<vision::v1::EncodeMediaResponse> told)
      : CallOf(fleet, common::v1::ROLE_VISION, std::move(told)), request_(std::move(request)) {}

  void Arrive() override;
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override;
  void Landed(const ParcelLabel& label, const absl::Status& status) override;

 private:
  void SendPixels();
  void EncodeNext(int next);
  void SendRows(int next);

  const vision::v1::EncodeMediaRequest request_;
  uint64_t rows_ = 0;  // of the span that travels
};

class SimulatedFleet::PrefillCall final : public CallOf<prefill::v1::PrefillPromptResponse>,
                                          public PrefillObserver {
 public:
  PrefillCall(SimulatedFleet& fleet, prefill::v1::PrefillPromptRequest request,
              Told<prefill::v1::PrefillPromptResponse> told)
      : CallOf(fleet, common::v1::ROLE_PREFILL, std::move(told)), request_(std::move(request)) {}

  void Arrive() override;
  void GiveUp() override { Fail(absl::CancelledError("nobody waits for it")); }
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override;
  void Landed(const ParcelLabel& label, const absl::Status& status) override;

  void OnAdmitted(int64_t held_tokens) override;
  void OnPages(PageRun run, absl::AnyInvocable<void()> sent) override;
  void OnComputed(int64_t /*tokens*/) override {}
  void OnEnd(absl::StatusOr<Finish> finish) override;

  std::shared_ptr<PrefillObserver> Observer() { return {shared_from_this(), this}; }

 private:
  absl::StatusOr<SequenceId> Submit();
  absl::StatusOr<SequenceId> Adopt();
  void Fail(const absl::Status& status);
  absl::Status StatusOf(absl::Status finish) const;

  const prefill::v1::PrefillPromptRequest request_;
  SequenceId id_ = 0;                // 0: not submitted
  std::shared_ptr<OwnLanding> own_;  // null: not adopted
  std::vector<uint64_t> rows_;       // of each span
  std::set<int64_t> missing_;        // spans
  bool is_cancelled_ = false;
  absl::Status failure_;
};

class SimulatedFleet::DecodeCall final : public CallOf<decode::v1::DecodeSequenceResponse>,
                                         public LandingObserver,
                                         public OwnLanding {
 public:
  DecodeCall(SimulatedFleet& fleet, decode::v1::DecodeSequenceRequest request,
             Told<decode::v1::DecodeSequenceResponse> told)
      : CallOf(fleet, common::v1::ROLE_DECODE, std::move(told)), request_(std::move(request)) {}

  void Arrive() override;
  // By its caller, or by whoever has adopted its landing.
  void GiveUp() override;
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override;
  void Landed(const ParcelLabel& label, const absl::Status& status) override;
  void OnSlotClosed() override;
  absl::StatusOr<SequenceId> Compute(const common::v1::Prompt& prompt,
                                     PrefillObserver& observer) override;

  void OnAdmitted(LandingPages pages) override;
  void OnRecalled() override;
  void OnToken(int32_t token) override;
  void OnEnd(absl::StatusOr<Finish> finish) override;

 private:
  enum class SlotState { kNone, kOpen, kClosing, kClosed };

  void Cancel();
  void CloseOpenSlot();

  const decode::v1::DecodeSequenceRequest request_;
  SequenceId id_ = 0;  // 0: not submitted
  uint32_t new_tokens_ = 0;
  std::optional<PageArrivals> arrivals_;
  SlotState slot_state_ = SlotState::kNone;
  uint64_t own_slot_ = 0;
  std::shared_ptr<PrefillObserver> adopter_;
  bool is_cancelled_ = false;
  absl::Status failure_;
};

}  // namespace minicpmv::router
