#include "runtime/engine/stage.h"

#include <utility>

#include "runtime/base/clock.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {

absl::StatusOr<std::unique_ptr<DecoderStage>> DecoderStage::Load(const Checkpoint& checkpoint,
                                                                 const ModelSpec& spec,
                                                                 Device& device,
                                                                 std::unique_ptr<Kernels> kernels,
                                                                 const Options& options) {
  Decoder::Options decoder_options;
  decoder_options.layers = options.layers;
  decoder_options.max_rows = options.max_rows;
  decoder_options.max_logit_rows = options.max_logit_rows;
  ASSIGN_OR_RETURN(std::unique_ptr<Decoder> decoder,
                   Decoder::Load(checkpoint, spec, device, *kernels, decoder_options));
  const CacheShape shape = {options.cache_dtype, static_cast<int>(spec.language.kv_heads),
                            static_cast<int>(spec.language.head_size)};
  ASSIGN_OR_RETURN(KvCache cache,
                   KvCache::Create(device, shape, options.layers.count(), options.pages));
  return std::unique_ptr<DecoderStage>(
      new DecoderStage(std::move(kernels), std::move(decoder), std::move(cache)));
}

DecoderStage::DecoderStage(std::unique_ptr<Kernels> kernels, std::unique_ptr<Decoder> decoder,
                           KvCache cache)
    : kernels_(std::move(kernels)), decoder_(std::move(decoder)), cache_(std::move(cache)) {}

DecoderStage::~DecoderStage() {
  // Whoever waited for the steps has seen a failure already; here only their end matters.
  (void)kernels_->stream().Wait();
}

void DecoderStage::Forward(const StageStep& step, absl::AnyInvocable<void(StageResult)> ended) {
  Stream& stream = kernels_->stream();
  stream.Call([this] { began_ = Clock::Monotonic().Now(); });
  if (!step.copies.empty()) {
    for (const CacheLayer& layer : cache_.layers()) kernels_->CopyPages(step.copies, layer);
  }
  const LayerHook queue_hook = [&](int64_t layer) {
    stream.Call([&step, &stream, layer] {
      if (stream.status().ok()) step.layer_ended(layer);
    });
  };
  decoder_->Forward(step.batch, cache_.layers(), step.hidden, step.logits, /*observer=*/nullptr,
                    step.layer_ended ? &queue_hook : nullptr);
  stream.Call([this, &stream, ended = std::move(ended)]() mutable {
    ended({stream.status(), Clock::Monotonic().Now() - began_});
  });
  stream.Yield();
}

}  // namespace minicpmv
