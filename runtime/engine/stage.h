#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kv/kv_cache.h"
#include "runtime/model/decoder.h"
#include "runtime/model/family.h"

namespace minicpmv {

// One step as the stages of a pipeline see it, one after the other. Tensors are on the host or on
// the one device that all stages share.
struct StageStep {
  StepBatch batch;
  std::vector<PageCopy> copies;  // before anything is written
  TensorView hidden;             // [rows, hidden] float32: in and out
  TensorView logits;             // [logit rows, vocabulary] float32: out, of the last stage
  // If set: called for each layer once its part of the step is in the cache, on the stage's own
  // thread, before `ended`; of a stage that failed maybe not for all.
  LayerHook layer_ended;
};

// How one stage's share of a step ended.
struct StageResult {
  absl::Status status;
  absl::Duration busy;  // from the moment its work began to its end: waiting in line is left out
};

// A run of layers with its share of the cache. Steps end in the order in which they were queued.
class Stage {
 public:
  // Waits for what is queued.
  virtual ~Stage() = default;

  // Queues this stage's share of a step and returns; `ended` is called once, on the stage's own
  // thread, when it has ended; until then `step` is alive and unchanged. One thread at a time.
  virtual void Forward(const StageStep& step, absl::AnyInvocable<void(StageResult)> ended) = 0;

  // Its layers' share of the cache, in order; alive as long as the stage.
  virtual absl::Span<const CacheLayer> cache() const = 0;
};

// A stage in this process: some of a decoder's layers on one device, queued on the stream of its
// kernels.
class DecoderStage final : public Stage {
 public:
  struct Options {
    LayerRange layers;
    int64_t pages = 0;
    DType cache_dtype = DType::kF32;
    int max_rows = 0;
    int max_logit_rows = 0;
  };

  // Statuses of Decoder::Load and KvCache::Create. Checkpoint and device outlive the stage.
  static absl::StatusOr<std::unique_ptr<DecoderStage>> Load(const Checkpoint& checkpoint,
                                                            const ModelSpec& spec, Device& device,
                                                            std::unique_ptr<Kernels> kernels,
                                                            const Options& options);
  ~DecoderStage() override;

  void Forward(const StageStep& step, absl::AnyInvocable<void(StageResult)> ended) override;

  absl::Span<const CacheLayer> cache() const override { return cache_.layers(); }

 private:
  DecoderStage(std::unique_ptr<Kernels> kernels, std::unique_ptr<Decoder> decoder, KvCache cache);

  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<Decoder> decoder_;
  KvCache cache_;
  absl::Time began_;  // touched on the stream's thread only
};

}  // namespace minicpmv
