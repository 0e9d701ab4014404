#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/device/device.h"
#include "runtime/kernels/step_batch.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

// A tensor of the checkpoint as one Kernels wants it. On the CPU a matrix is the mapped bytes as they are; a vector is
// widened to float32 into `owned`. Lives no longer than the checkpoint and the device.
struct Weight {
  ConstTensorView view;
  std::unique_ptr<Buffer> owned;  // null when the bytes are the checkpoint's
};

// One product of MatMulMany: out[r][n] = sum over k of x[r][k] * weight[n][k], plus bias[n].
struct Product {
  const Weight* weight = nullptr;  // [columns of out, columns of x]
  const Weight* bias = nullptr;    // [columns of out], or null
  TensorView out;                  // [rows of x, ...]
};

// Which rows see which in FullAttention: the rows [query_starts[i], query_starts[i+1]) see exactly the rows
// [key_starts[i], key_starts[i+1]). On the host, alive until the verb has ended.
struct AttentionSpans {
  absl::Span<const int32_t> query_starts;  // [spans + 1]
  absl::Span<const int32_t> key_starts;    // [spans + 1]
};

// Angles of the rotary position code: cosines and sines [positions, head_size / 2], float32, on the device.
struct RopeTable {
  ConstTensorView cosines;
  ConstTensorView sines;
};

// From page `from` to page `to`.
struct PageCopy {
  int32_t from = 0;
  int32_t to = 0;
};

// The whole arithmetic vocabulary. A verb is queued on the stream and returns at once: views, weights, spans and batches
// that it was given are alive and unchanged until it has ended (Stream::Call or Wait tells). Activations are float32 and
// dense, [rows, width]; matrices are in their checkpoint's dtype. Shapes that do not fit together are bugs: CHECK. One
// thread at a time.
//
// The numeric contract: a row's result depends on that row and its own history only, not on the other rows, their number,
// the chunking, the number of threads or page numbers; and within a numerics class it is the same to the last bit.
//   Products    eight lanes; element k belongs to lane (k mod 16) / 2; a lane takes its elements in rising order by fused
//               multiply-add from zero, K filled up with zeros to a multiple of 16; then (l0+l4 + l2+l6) + (l1+l5 + l3+l7);
//               then the bias.
//   Attention   the keys in blocks of 64 positions counted from 0, in order, each block joined to what came before by the
//               running maximum and sum.
//   Means       eight lanes, element k in lane k mod 8, joined in the same tree.
class Kernels {
 public:
  virtual ~Kernels() = default;

  virtual Stream& stream() = 0;
  // Device kind, instruction class and numerics version: "cpu-fma-1". Equal names give equal bits.
  virtual absl::string_view numerics_class() const = 0;

  // --- At load. `tensor` is f32, bf16 or f16, on the host, and outlives the weight. RESOURCE_EXHAUSTED: no room.
  // Rank 1: a vector. Otherwise a matrix [first axis, all others].
  virtual absl::StatusOr<Weight> Prepare(ConstTensorView tensor) = 0;
  // The transpose of a matrix, as a matrix.
  virtual absl::StatusOr<Weight> PrepareTransposed(ConstTensorView matrix) = 0;

  // --- Products.
  void MatMul(ConstTensorView x, const Weight& weight, const Weight* bias, TensorView out) {
    const Product product = {&weight, bias, out};
    MatMulMany(x, {&product, 1});
  }
  // Several products of the same x; none of the outs overlaps x. The span itself need not outlive the call.
  virtual void MatMulMany(ConstTensorView x, absl::Span<const Product> products) = 0;

  // --- Rows. `out` may be the input unless said otherwise.
  // out = x / sqrt(mean(x^2) + epsilon) * weight
  virtual void RmsNorm(ConstTensorView x, const Weight& weight, float epsilon, TensorView out) = 0;
  // x += delta, then out = RmsNorm(x); out is neither of them.
  virtual void AddRmsNorm(TensorView x, ConstTensorView delta, const Weight& weight, float epsilon, TensorView out) = 0;
  // out = (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias
  virtual void LayerNorm(ConstTensorView x, const Weight& weight, const Weight& bias, float epsilon, TensorView out) = 0;
  // x += delta, then out = LayerNorm(x); out is neither of them.
  virtual void AddLayerNorm(TensorView x, ConstTensorView delta, const Weight& weight, const Weight& bias, float epsilon,
                            TensorView out) = 0;
  // x += delta
  virtual void Add(TensorView x, ConstTensorView delta) = 0;
  // gate = gate / (1 + exp(-gate)) * up
  virtual void SiluMul(TensorView gate, ConstTensorView up) = 0;
  // x = x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))
  virtual void Gelu(TensorView x) = 0;
  // out[r] = table[ids[r]], widened. ids lie inside the table. They are copied before the call returns.
  virtual void GatherRows(ConstTensorView table, absl::Span<const int32_t> ids, TensorView out) = 0;
  // out[first_row + i] = rows[i], widened, for each span.
  virtual void ScatterRows(absl::Span<const StepBatch::Span> spans, TensorView out) = 0;
  // to = from, element by element, rounded to nearest even. Dtypes f32, bf16, f16. `from` may also lie on the host: this is
  // how bytes get to a device.
  virtual void Cast(ConstTensorView from, TensorView to) = 0;

  // --- Attention.
  // Rotates q [rows, heads * head_size] and k [rows, kv_heads * head_size] by their positions (element i pairs with
  // i + head_size/2) and stores k and v at those positions of their pieces' pages.
  virtual void RopeStore(TensorView q, TensorView k, ConstTensorView v, const RopeTable& rope, const StepBatch& batch,
                         const CacheLayer& cache) = 0;
  // Each row of q sees the positions 0 .. its own of its piece; scores are scaled by 1/sqrt(head_size); consecutive heads
  // share a key head. out [rows, heads * head_size] is not q.
  virtual void PagedAttention(ConstTensorView q, const StepBatch& batch, const CacheLayer& cache, TensorView out) = 0;
  // q [query rows, heads * head_size], k and v [key rows, heads * head_size], scores scaled by 1/sqrt(head_size); out as q.
  virtual void FullAttention(ConstTensorView q, ConstTensorView k, ConstTensorView v, const AttentionSpans& spans, int heads,
                             TensorView out) = 0;
  // Whole pages; no page is both a source and a target.
  virtual void CopyPages(absl::Span<const PageCopy> copies, const CacheLayer& cache) = 0;
};

}  // namespace minicpmv
