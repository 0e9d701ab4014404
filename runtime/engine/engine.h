#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "runtime/engine/pipeline.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/sequence.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

struct EngineOptions {
  SchedulerOptions scheduler;  // depth and rows are the pipeline's or fewer
  int64_t pages = 0;           // that every stage's cache holds
  int64_t max_positions = 0;   // the model's context
};

// A picture of an engine at one moment; totals since it began.
struct EngineStats {
  int64_t waiting = 0;
  int64_t running = 0;
  int64_t pages = 0;
  int64_t free_pages = 0;
  int64_t steps = 0;
  int64_t prompt_tokens = 0;  // computed
  int64_t new_tokens = 0;     // chosen
  int64_t preempted = 0;
  absl::Duration busy;       // sum over the steps of their stages' work
  absl::Duration last_step;  // of the last one
};

// Many sequences through one pipeline. One thread plans, issues and books; it never computes, and
// sleeps until a step is done, something is submitted or cancelled, or rows have landed. Tokens are
// chosen on the thread that ended the step. Public calls are thread-safe and never wait for a step.
class Engine {
 public:
  // Pipeline and clock outlive the engine; the pipeline is nobody else's.
  Engine(const EngineOptions& options, Pipeline& pipeline, const Clock& clock = Clock::Monotonic());
  // Every sequence that has not ended ends with CANCELLED before this returns.
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

  // Ends the sequence with CANCELLED once no step names it. An id that has ended is passed over.
  void Cancel(SequenceId id);

  EngineStats stats() const;

 private:
  class Core;  // the engine thread and what it owns
  std::unique_ptr<Core> core_;
};

}  // namespace minicpmv
