#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/activation_observer.h"
#include "runtime/model/family.h"
#include "runtime/model/scratch.h"

namespace minicpmv {

// Layers [first, last) of a decoder.
struct LayerRange {
  int64_t first = 0;
  int64_t last = 0;
  int64_t count() const { return last - first; }
};

// Told the number of a layer, counted over the whole decoder.
using LayerHook = std::function<void(int64_t layer)>;

// A run of a language model's layers on one device. The first part also turns tokens into rows, the last one rows into logits.
// Holds weights and scratch, no cache and no state of any sequence. One thread queues at a time; the checkpoint, device and
// kernels outlive it.
class Decoder {
 public:
  struct Options {
    LayerRange layers;
    int max_rows = 0;        // the most rows of a step
    // The most rows of a step whose logits are wanted. 0: the last part has no head, and loads none.
    int max_logit_rows = 0;
  };

  // NOT_FOUND, INVALID_ARGUMENT: a tensor is missing or has another shape than the spec says; the words name it.
  // RESOURCE_EXHAUSTED: the device has no room.
  static absl::StatusOr<std::unique_ptr<Decoder>> Load(const Checkpoint& checkpoint, const ModelSpec& spec, Device& device,
                                                       Kernels& kernels, const Options& options);

  // Queues one step. `cache` holds this part's layers in order, `hidden` is [batch.rows(), hidden], float32, on the device:
  // where the part is not the first it holds the output of the part before; where it is not the last it receives ours.
  // `logits` [batch.logit_rows.size(), vocabulary], float32, is written by the last part only. Batch, cache and views live
  // until the step has ended.
  // `layer_queued` is called with the number of each layer once it is queued, before the next one is.
  // `observer` is shown "hidden.NN", the input to each layer, and after the last one the rows behind the final norm.
  void Forward(const StepBatch& batch, absl::Span<const CacheLayer> cache, TensorView hidden, TensorView logits,
               const ActivationObserver* observer = nullptr, const LayerHook* layer_queued = nullptr);

  bool is_first() const { return layers_.first == 0; }
  bool is_last() const { return layers_.last == spec_.language.layers; }
  Kernels& kernels() { return kernels_; }

 private:
  struct Layer {
    Weight input_norm, q, k, v, q_bias, k_bias, v_bias, o, post_attention_norm, gate, up, down;
  };
  Decoder(const ModelSpec& spec, Kernels& kernels, const Options& options)
      : spec_(spec), kernels_(kernels), layers_(options.layers), has_head_(is_last() && options.max_logit_rows > 0) {}
  absl::Status LoadWeights(const Checkpoint& checkpoint);
  absl::Status MakeRope();
  absl::Status AllocateScratch(Device& device, const Options& options);
  void RunLayer(const Layer& layer, const StepBatch& batch, const CacheLayer& cache, TensorView hidden);

  const ModelSpec spec_;
  Kernels& kernels_;
  const LayerRange layers_;
  const bool has_head_;
  std::vector<Layer> weights_;               // of layers_
  Weight embedding_, final_norm_, lm_head_;  // of the first part; of the last, if it has a head
  std::vector<float> angles_;                // what rope_ was prepared from
  Weight cosines_, sines_;
  Scratch scratch_;
  TensorView normed_, q_, k_, v_, attended_, delta_, gate_, up_;  // [max rows, ...] in scratch_
  TensorView last_;                                               // [max logit rows, hidden]
};

// Bytes of weights that each layer reads in a step, and those of the embedding and the head (norm included): what a split
// over devices is balanced by.
struct DecoderBytes {
  std::vector<uint64_t> layers;
  uint64_t embedding = 0;
  uint64_t head = 0;
};
absl::StatusOr<DecoderBytes> MeasureDecoder(const Checkpoint& checkpoint, const ModelSpec& spec);

}  // namespace minicpmv
