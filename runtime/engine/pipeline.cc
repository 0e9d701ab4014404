#include "runtime/engine/pipeline.h"

#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {

absl::StatusOr<std::unique_ptr<Pipeline>> Pipeline::Create(
    std::vector<std::unique_ptr<Stage>> stages, Device& device, const PipelineOptions& options) {
  CHECK(!stages.empty());
  CHECK_GE(options.depth, 1);
  auto pipeline = std::unique_ptr<Pipeline>(new Pipeline(std::move(stages), options));
  for (Slot& slot : pipeline->slots_) {
    const size_t hidden = sizeof(float) * options.max_rows * options.hidden;
    const size_t logits = sizeof(float) * options.max_logit_rows * options.vocabulary;
    ASSIGN_OR_RETURN(slot.hidden, device.Allocate(hidden));
    ASSIGN_OR_RETURN(slot.logits, device.Allocate(logits));
  }
  return pipeline;
}

Pipeline::Pipeline(std::vector<std::unique_ptr<Stage>> stages, const PipelineOptions& options)
    : options_(options), slots_(options.depth), stages_(std::move(stages)) {
  for (const std::unique_ptr<Stage>& stage : stages_) {
    cache_.insert(cache_.end(), stage->cache().begin(), stage->cache().end());
  }
}

Pipeline::~Pipeline() {
  // A stage's end may still be queueing at the next one: from the first to the last.
  for (std::unique_ptr<Stage>& stage : stages_) stage.reset();
  for (const Slot& slot : slots_) CHECK(slot.ended == nullptr) << "a step is out";
}

void Pipeline::Issue(int index, absl::AnyInvocable<void(StageResult)> ended) {
  Slot& slot = slots_[index];
  CHECK(slot.ended == nullptr) << "slot " << index << " is out";
  const StepBatch& batch = slot.step.batch;
  const int64_t logit_rows = static_cast<int64_t>(batch.logit_rows.size());
  CHECK(batch.rows() >= 1 && batch.rows() <= options_.max_rows) << batch.rows();
  CHECK_LE(logit_rows, options_.max_logit_rows);
  slot.step.hidden = {slot.hidden->data(), DType::kF32, Shape{batch.rows(), options_.hidden}};
  slot.step.logits = {slot.logits->data(), DType::kF32, Shape{logit_rows, options_.vocabulary}};
  slot.ended = std::move(ended);
  slot.busy = absl::ZeroDuration();
  Run(slot, 0);
}

void Pipeline::Run(Slot& slot, size_t stage) {
  stages_[stage]->Forward(slot.step, [this, &slot, stage](StageResult result) {
    slot.busy += result.busy;
    if (result.status.ok() && stage + 1 < stages_.size()) {
      Run(slot, stage + 1);
      return;
    }
    // The slot may be issued again as soon as `ended` is called.
    absl::AnyInvocable<void(StageResult)> ended = std::exchange(slot.ended, nullptr);
    ended({std::move(result.status), slot.busy});
  });
}

}  // namespace minicpmv
