#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "minicpmv/prefill/v1/prefill_service.pb.h"
#include "runtime/base/trace_file.h"
#include "runtime/engine/engine.h"
#include "runtime/link/landings.h"
#include "services/common/calls.h"
#include "services/common/engine_room.h"
#include "services/common/open_calls.h"
#include "services/common/own_landings.h"
#include "services/prefill/page_sender.h"
#include "services/prefill/prefill_request.h"
#include "services/prefill/rows_arrivals.h"

namespace minicpmv::prefill {

// One PrefillPrompt call: a landing for the prompt's rows, its positions through the engine, and
// their pages on the way to the landing that awaits them; or, where that is this worker's own, the
// landing's prompt computed in place. Keeps itself alive from Start until the engine has told the
// end and no parcel is being placed.
class PrefillCall final : public PrefillObserver,
                          public Landing,
                          public std::enable_shared_from_this<PrefillCall> {
 public:
  using Stream = ResponseStream<v1::PrefillPromptResponse>;

  PrefillCall(EngineRoom& room, OpenCalls& calls, std::shared_ptr<Stream> stream, PrefillJob job,
              TraceContext trace);

  // Asks the engine for room. From now on the call ends by itself. `request`: what the job was read
  // from.
  void Start(const v1::PrefillPromptRequest& request, std::unique_ptr<Worker::Call> admitted);

  // Ends the call with this unless it ends well before. Any thread.
  void End(const absl::Status& status);

 private:
  // PrefillObserver.
  void OnAdmitted(int64_t held_tokens) override;
  void OnPages(PageRun run, absl::AnyInvocable<void()> sent) override;
  void OnComputed(int64_t tokens) override;
  void OnEnd(absl::StatusOr<Finish> finish) override;

  // Landing; on a link's thread.
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override;
  void Landed(const ParcelLabel& label, const absl::Status& status) override;

  absl::StatusOr<SequenceId> Submit(const v1::PrefillPromptRequest& request);
  absl::StatusOr<SequenceId> Adopt(const v1::PrefillPromptRequest& request);
  void OnParcel(const absl::Status& status);
  void CloseSlot();
  absl::Status StatusOf(absl::Status finish) const;
  void Tell();
  std::optional<v1::PrefillPromptResponse> NextMessage();
  void FillBill(const Finish& finish, common::v1::Bill& bill) const;
  void Count() const;

  EngineRoom& room_;
  const OpenCalls::Entry open_;
  const std::shared_ptr<Stream> stream_;
  const absl::Time handed_;
  const TracedWork work_;
  const std::vector<SequenceRequest::Span> spans_;
  const int64_t tokens_;     // positions to be held in the end
  const int64_t send_from_;  // those that the destination holds already
  PrefillJob job_;           // until Start
  std::unique_ptr<Worker::Call> admitted_;
  std::unique_ptr<PageSender> sender_;  // null: adopted
  std::shared_ptr<OwnLanding> own_;     // null: not adopted
  absl::Duration told_busy_;            // the engine's thread, in OnComputed

  mutable std::mutex mutex_;  // guards all below
  SequenceId id_ = -1;
  uint64_t slot_ = 0;  // 0: not opened yet, or closed
  std::optional<RowsArrivals> rows_;
  bool is_cancelled_ = false;
  absl::Status failure_;  // what it ends with instead of CANCELLED
  int64_t held_ = 0, computed_ = 0;
  absl::Time computed_at_;
  int64_t steps_ = 0;
  bool is_half_landed_ = false;  // the pages

  // What is still to be told, in this order: one thread at a time tells it.
  bool is_telling_ = false;
  std::optional<v1::PrefillPromptResponse> landing_, done_;
  v1::PrefillProgress told_;
  std::optional<absl::Status> status_;  // of the end

  std::shared_ptr<PrefillCall> self_;
};

}  // namespace minicpmv::prefill
