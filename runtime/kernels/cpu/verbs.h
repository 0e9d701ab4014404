#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/kernels/cpu/workers.h"
#include "runtime/kernels/kernels.h"

namespace minicpmv {

// The verbs of Kernels for one instruction class, done at once on the thread of the stream and the
// workers. Operands have been checked. The vectors are float32.

struct ProductVerbs {
  void (*mat_mul_many)(ConstTensorView x, absl::Span<const Product> products, Workers& workers);
};

struct RowVerbs {
  void (*rms_norm)(ConstTensorView x, const float* weight, float epsilon, TensorView out,
                   Workers& workers);
  void (*add_rms_norm)(TensorView x, ConstTensorView delta, const float* weight, float epsilon,
                       TensorView out, Workers& workers);
  void (*layer_norm)(ConstTensorView x, const float* weight, const float* bias, float epsilon,
                     TensorView out, Workers& workers);
  void (*add_layer_norm)(TensorView x, ConstTensorView delta, const float* weight,
                         const float* bias, float epsilon, TensorView out, Workers& workers);
  void (*add)(TensorView x, ConstTensorView delta, Workers& workers);
  void (*silu_mul)(TensorView gate, ConstTensorView up, Workers& workers);
  void (*gelu)(TensorView x, Workers& workers);
  void (*gather_rows)(ConstTensorView table, absl::Span<const int32_t> ids, TensorView out,
                      Workers& workers);
  void (*cast)(ConstTensorView from, TensorView to, Workers& workers);
};

struct AttentionVerbs {
  void (*rope_store)(TensorView q, TensorView k, ConstTensorView v, const RopeTable& rope,
                     const StepBatch& batch, const CacheLayer& cache, Workers& workers);
  void (*paged_attention)(ConstTensorView q, const StepBatch& batch, const CacheLayer& cache,
                          TensorView out, Workers& workers);
  void (*full_attention)(ConstTensorView q, ConstTensorView k, ConstTensorView v,
                         const AttentionSpans& spans, int heads, TensorView out, Workers& workers);
};

// For the best class that the CPU has now (hwy::SupportedTargets). Null on a CPU without AVX2 and
// FMA.
const ProductVerbs* GetProductVerbs();
const RowVerbs* GetRowVerbs();
const AttentionVerbs* GetAttentionVerbs();

}  // namespace minicpmv
