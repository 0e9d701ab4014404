#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "minicpmv/decode/v1/decode_service.pb.h"
#include "runtime/base/trace_file.h"
#include "runtime/engine/engine.h"
#include "runtime/link/landings.h"
#include "services/common/calls.h"
#include "services/common/engine_room.h"
#include "services/common/open_calls.h"
#include "services/common/own_landings.h"
#include "services/decode/page_arrivals.h"

namespace minicpmv::decode {

// One DecodeSequence call: a landing for the prompt's pages, then the sequence that they belong to.
// Keeps itself alive from Start until the engine has told the end and no parcel is being placed.
//
// The places belong to the engine, which takes them back only when nobody writes to them: whatever
// ends the wait for pages (all are here, adoption, the caller or the engine gives up) closes the
// slot first, once, and then tells the engine what came of it.
class DecodeCall final : public LandingObserver,
                         public Landing,
                         public OwnLanding,
                         public std::enable_shared_from_this<DecodeCall> {
 public:
  using Stream = ResponseStream<v1::DecodeSequenceResponse>;

  // `prompt`: as it came.
  DecodeCall(EngineRoom& room, OpenCalls& calls, std::shared_ptr<Stream> stream,
             const common::v1::Prompt& prompt, SequenceRequest request, TraceContext trace);

  // Asks the engine for room. From now on the call ends by itself.
  void Start(std::unique_ptr<Worker::Call> admitted);

  // Ends the call with this unless it ends well before. Any thread.
  void End(const absl::Status& status);

 private:
  // LandingObserver; on the engine's thread.
  void OnAdmitted(LandingPages pages) override;
  void OnRecalled() override;
  void OnToken(int32_t token) override;
  void OnEnd(absl::StatusOr<Finish> finish) override;

  // Landing; on a link's thread.
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override;
  void Landed(const ParcelLabel& label, const absl::Status& status) override;

  // OwnLanding; on a thread of the prefill service.
  absl::StatusOr<SequenceId> Compute(const common::v1::Prompt& prompt,
                                     PrefillObserver& observer) override;
  void GiveUp() override;

  // The slot's way: kNone -> kOpen -> kClosing -> kClosed.
  enum class SlotState : uint8_t { kNone, kOpen, kClosing, kClosed };
  void Cancel(std::unique_lock<std::mutex> lock);
  void CloseSlot(std::unique_lock<std::mutex> lock);
  void OnClosed();
  void FillEnding(const Finish& finish, v1::Ending& ending) const;

  EngineRoom& room_;
  const OpenCalls::Entry open_;
  const std::shared_ptr<Stream> stream_;
  const std::string prompt_;  // serialised
  const absl::Time handed_;
  const TracedWork work_;
  SequenceRequest request_;  // until Start
  std::unique_ptr<Worker::Call> admitted_;

  // Touched on the engine's thread only.
  uint32_t generated_;  // tokens so far
  absl::Time first_step_start_, step_end_ = absl::InfinitePast();
  absl::Duration busy_;

  mutable std::mutex mutex_;  // guards all below
  SequenceId id_ = -1;
  SlotState slot_state_ = SlotState::kNone;
  uint64_t slot_ = 0;
  std::optional<PageArrivals> arrivals_;
  bool is_half_landed_ = false;
  bool is_cancelled_ = false;  // the engine is to be told so, or has been
  PrefillObserver* adopter_ = nullptr;
  absl::Status failure_;  // what it ends with instead of CANCELLED
  absl::Time admitted_at_, landed_at_ = absl::InfinitePast();
  std::shared_ptr<DecodeCall> self_;
};

}  // namespace minicpmv::decode
