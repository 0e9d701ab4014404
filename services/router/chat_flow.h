#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/base/trace_file.h"
#include "services/router/chat_request.h"
#include "services/router/encoding.h"
#include "services/router/fleet.h"
#include "services/router/media_homes.h"
#include "services/router/placement.h"
#include "services/router/quotas.h"
#include "services/router/reply_writer.h"
#include "services/router/request_bill.h"
#include "services/router/request_plan.h"
#include "services/router/request_queue.h"
#include "services/router/router_model.h"
#include "services/router/router_options.h"
#include "services/router/router_watch.h"
#include "services/router/task.h"
#include "services/router/worker_call.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// What all requests of one router share.
struct FlowGround {
  const RouterOptions& options;
  const RouterModel& model;
  Workers& workers;
  Loop& loop;
  Fleet& fleet;
  RequestQueue& queue;
  Quotas& quotas;
  RouterWatch& watch;
};

// The life of one request, from its arrival to the end of its reply. Destroyed before that, every
// call that is open for it is given up, wherever it stands. For the loop's thread.
class ChatFlow {
 public:
  // `done` is told once how the reply ended, from the loop; it must not destroy this. The sink
  // outlives this. `seed` is for a request that brings none.
  ChatFlow(const FlowGround& ground, ChatRequest request, std::string request_id, uint64_t seed,
           ReplySink& sink, std::function<void(const absl::Status&)> done);
  ~ChatFlow();

  void Start();

 private:
  // The story. Each part returns why the request has to end, or OK.
  Task<bool> Live();
  Task<absl::Status> Run();
  Task<absl::Status> BringMediaHome();
  Task<absl::Status> WaitForPlace();
  // From opened calls to the reply's end; nothing: it has ended.
  Task<std::optional<CallFailure>> Attempt();
  // The bills of stages that have done their work, if they come soon.
  Task<bool> AwaitBills();
  Task<bool> Pause(absl::Duration time);

  absl::Status Begin();
  absl::Status Plan();
  // Whether the request goes on, with place_status_: to its media's homes, to its calls, or to its
  // end.
  bool TryHomes();
  bool TryPlace();
  // UNAVAILABLE if a role has been missing for too long.
  absl::Status CheckRoles() const;
  void BeginDecode();
  void BeginPrefill(const common::v1::Landing& decode);
  void BeginEncoding(const common::v1::Landing& prefill);
  std::optional<CallFailure> TakeDecode();
  std::optional<CallFailure> TakeTokens(const decode::v1::Tokens& tokens);
  std::optional<CallFailure> TakePrefill();
  std::optional<CallFailure> TakeEncoding();
  bool HasNews() const;
  // What to do about it: OK is another attempt.
  absl::Status Judge(const CallFailure& failure);
  // A worker that is well could not send on: whoever it sends to may be the one that is cut off,
  // and counts as failed, too.
  void NoteUnreached(const CallFailure& failure);
  void CloseCalls();
  void LeaveQueue();
  // How much of the prompt nobody had to compute, in the first attempt.
  void NoteCached(uint32_t held_tokens);
  // Whether the tokens that a resumption brought are all.
  void CheckEnd();
  bool IsOver() const { return finish_reason_ != chat::v1::FINISH_REASON_UNSPECIFIED; }
  void Finish();
  // What the fleet has to do for a reply of so many new tokens.
  double WorkOf(int64_t new_tokens) const;
  // `how` it ended: a status's name, "" where all went well.
  void TellTrace(absl::string_view how);
  common::v1::Prompt PromptSoFar() const;
  int64_t TokensSoFar() const;

  const FlowGround ground_;
  const ChatRequest request_;
  const std::string request_id_;
  const uint64_t seed_;
  const TracedWork work_;
  ReplySink& sink_;
  const std::function<void(const absl::Status&)> done_;
  const absl::Time arrival_;
  const std::string tenant_;

  Signal signal_;
  RequestBill bill_;
  common::v1::RequestScope scope_;
  std::set<std::string> failed_;  // incarnations of workers that have failed it
  MediaHomes media_;
  std::unique_ptr<RequestQueue::Place> place_;
  std::optional<ReplyWriter> writer_;
  RequestPlan plan_;
  decode::v1::Limits limits_;
  chat::v1::FinishReason finish_reason_ = chat::v1::FINISH_REASON_UNSPECIFIED;

  // Of the present attempt.
  std::optional<absl::Status> place_status_;
  std::string present_class_;
  std::unique_ptr<WorkerCall<decode::v1::DecodeSequenceResponse>> decode_;
  std::unique_ptr<WorkerCall<prefill::v1::PrefillPromptResponse>> prefill_;
  std::unique_ptr<Encoding> encoding_;

  std::string numerics_class_;  // in which the reply began
  int failovers_ = 0;
  int refusals_ = 0;          // since the last token
  int64_t spare_pages_ = 0;   // see Job
  bool has_started_ = false;  // the first event has been sent
  bool has_told_trace_ = false;
  std::optional<uint32_t> cached_tokens_;
  absl::Time last_tokens_;
  std::unique_ptr<Loop::Alarm> alarm_;

  std::optional<Task<bool>> life_;  // ends first: it uses all of the above
};

}  // namespace minicpmv::router
