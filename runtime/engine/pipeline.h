#pragma once

#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/engine/stage.h"

namespace minicpmv {

struct PipelineOptions {
  int depth = 1;  // steps that may be out at a time
  int64_t max_rows = 0;
  int64_t max_logit_rows = 0;
  int64_t hidden = 0;
  int64_t vocabulary = 0;
};

// Stages in a row, in this process. Each step that is out has a slot: its own batch, activations
// and logits. A step runs through the first stage, whose end queues it at the second, and so on;
// while one stage works at it the stages before are free for the steps behind it. Steps end in
// order.
class Pipeline {
 public:
  // Activations and logits are allocated on `device`, whose memory every stage can reach; it
  // outlives the pipeline. RESOURCE_EXHAUSTED: it has no such room.
  static absl::StatusOr<std::unique_ptr<Pipeline>> Create(
      std::vector<std::unique_ptr<Stage>> stages, Device& device, const PipelineOptions& options);
  // No step is out.
  ~Pipeline();

  // Slot `i` in [0, depth): whoever issues fills batch, copies and layer_ended. Not to be touched
  // from Issue to `ended`.
  StepBatch& batch(int slot) { return slots_[slot].step.batch; }
  std::vector<PageCopy>& copies(int slot) { return slots_[slot].step.copies; }
  // Called on the stages' threads, one at a time: see StageStep. Null where nobody listens.
  LayerHook& layer_ended(int slot) { return slots_[slot].step.layer_ended; }
  // [logit rows of the batch, vocabulary] from `ended` to the next Issue of the slot.
  ConstTensorView logits(int slot) const { return slots_[slot].step.logits; }

  // Starts the step that the slot holds and returns. `ended` is called once, on the last stage's
  // thread (of the failed stage, if one failed); the time is the sum of what the stages took. One
  // thread at a time.
  void Issue(int slot, absl::AnyInvocable<void(StageResult)> ended);

  const PipelineOptions& options() const { return options_; }
  // All layers' caches, in order.
  const std::vector<CacheLayer>& cache() const { return cache_; }

 private:
  struct Slot {
    StageStep step;
    std::unique_ptr<Buffer> hidden;  // [max_rows, hidden]
    std::unique_ptr<Buffer> logits;  // [max_logit_rows, vocabulary]
    absl::AnyInvocable<void(StageResult)> ended;
    absl::Duration busy;
  };
  Pipeline(std::vector<std::unique_ptr<Stage>> stages, const PipelineOptions& options);
  void Run(Slot& slot, size_t stage);

  const PipelineOptions options_;
  std::vector<CacheLayer> cache_;
  std::vector<Slot> slots_;
  std::vector<std::unique_ptr<Stage>> stages_;  // destroyed first: they may still look at slots
};

}  // namespace minicpmv
