#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "runtime/engine/handover.h"
#include "runtime/engine/pipeline.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/sequence.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

struct EngineOptions {
  SchedulerOptions scheduler;  // depth and rows are the pipeline's or fewer
  int64_t pages = 0;           // that every stage's cache holds
  int64_t max_positions = 0;   // the model's context
  // What two caches must have in common before pages of one may be used for the other.
  std::string model_fingerprint;
  std::string cache_layout;
  std::string numerics_class;
};

// A picture of an engine at one moment; totals since it began.
struct EngineStats {
  int64_t waiting = 0;
  int64_t running = 0;        // landings included
  int64_t landings = 0;       // whose pages are still to come
  // Every page is counted once: pages = free + held + landing + cached.
  int64_t pages = 0;
  int64_t free_pages = 0;
  int64_t held_pages = 0;     // by sequences, or by a step or run that still names them
  int64_t landing_pages = 0;  // of landings, but for those that the prefix index gave
  int64_t cached_pages = 0;   // by the prefix index alone: free as soon as somebody wants them
  int64_t steps = 0;
  int64_t prompt_tokens = 0;  // computed
  int64_t new_tokens = 0;     // chosen
  int64_t preempted = 0;
  int64_t prefix_query_tokens = 0;  // positions that the prefix index was asked for
  int64_t prefix_hit_tokens = 0;    // of them, those it held
  absl::Duration busy;       // sum over the steps of their stages' work
  absl::Duration last_step;  // of the last one
  // The oldest step that is out: since when nothing lies before it, by the engine's clock, and how
  // long it was predicted to take (zero: nothing was measured yet). Unset: no step is out.
  std::optional<absl::Time> step_since;
  absl::Duration predicted_step;
};

// One step that ended well.
struct StepReport {
  int64_t sequences = 0;
  int64_t prompt_rows = 0;  // positions that are computed before a first token is chosen
  int64_t decode_rows = 0;  // all others
  absl::Duration busy;      // sum of its stages' work
};

// Many sequences through one pipeline. One thread plans, issues and books; it never computes, and
// sleeps until a step is done, something is submitted or cancelled, rows or pages have landed, or
// pages have been sent. Tokens are chosen on the thread that ended the step. Public calls are
// thread-safe and never wait for a step.
//
// A prompt may be computed by one engine (SubmitPrefill) and continued by another (SubmitLanding):
// see handover.h. Full pages that were computed well are found again by what begins alike.
class Engine {
 public:
  // Pipeline and clock outlive the engine; the pipeline is nobody else's.
  Engine(const EngineOptions& options, Pipeline& pipeline, const Clock& clock = Clock::Monotonic());
  // Every sequence that has not ended ends with CANCELLED before this returns, which waits for
  // every `sent`. Nobody writes to places of landings any more.
  ~Engine();

  // The observer outlives its OnEnd, which may come before this returns. An error leaves it
  // uncalled. INVALID_ARGUMENT names the field: an id outside the vocabulary, a span outside the
  // prompt, settings, a prompt that fills the context. RESOURCE_EXHAUSTED: all pages together are
  // too few for it. Once a device has failed: its status.
  absl::StatusOr<SequenceId> Submit(SequenceRequest request, SequenceObserver& observer);

  // Rows [count, hidden], f32, bf16 or f16, of span number `span` of the request, on the first
  // stage's device, alive until OnEnd. Each span once, in any order. An id that has ended is passed
  // over; rows that do not fit end the sequence.
  void ProvideRows(SequenceId id, int64_t span, ConstTensorView rows);

  // Computes positions [0, T - 1) of a prompt and shows their pages; chooses no token. Never waits
  // for pages: what the prefix index gives up is all it gets beside free ones. Errors as Submit's.
  absl::StatusOr<SequenceId> SubmitPrefill(PrefillRequest request, PrefillObserver& observer);

  // Keeps pages for a sequence whose positions [0, T - 1) arrive from elsewhere (PagesLanded) or
  // are computed here (ComputeLanding); decodes then as if Submit had computed them. At once or not
  // at all, with pages for the tokens and the headroom. No span holds the last token. Errors as
  // Submit's.
  absl::StatusOr<SequenceId> SubmitLanding(SequenceRequest request, LandingObserver& observer);

  // All positions [0, T - 1) are in place, and nobody writes to the places any more: whoever gave
  // them away has taken them back (closed the slot). Once, or ComputeLanding instead. An id that
  // has ended is passed over.
  void PagesLanded(SequenceId id);

  // Nothing will arrive: the engine computes what the landing does not hold in the landing's own
  // pages. Rows come by ProvideRows, numbered as the landing's spans. `observer` sees OnAdmitted,
  // OnComputed, and OnEnd when positions [0, T - 1) are computed or the sequence ended. It always
  // hears OnEnd: NOT_FOUND where the id has ended.
  void ComputeLanding(SequenceId id, PrefillObserver& observer);

  // Ends the sequence with CANCELLED once no step names it, and no run of its pages is being sent.
  // Of a landing: nobody writes to its places any more. An id that has ended is passed over.
  void Cancel(SequenceId id);

  EngineStats stats() const;

  // `watch` is told of each step from now on, on the engine's thread; it must not block. Null: none
  // is. The one before is not called any more once this has returned.
  void WatchSteps(std::function<void(const StepReport&)> watch);

 private:
  class Core;  // the engine thread and what it owns
  std::unique_ptr<Core> core_;
};

}  // namespace minicpmv
