#pragma once

#include "runtime/kernels/kernels.h"

namespace minicpmv {

// What each verb of Kernels asks of its operands, for all who implement it: CHECKs with the shapes
// printed, cheap enough for every call, on the thread that queues.
void CheckPrepare(ConstTensorView tensor);
void CheckPrepareTransposed(ConstTensorView matrix);
void CheckMatMulMany(ConstTensorView x, absl::Span<const Product> products);
void CheckNorm(ConstTensorView x, const Weight& weight, const Weight* bias, ConstTensorView out);
void CheckAddNorm(ConstTensorView x, ConstTensorView delta, const Weight& weight,
                  const Weight* bias, ConstTensorView out);
void CheckSameRows(ConstTensorView a, ConstTensorView b);  // Add, SiluMul, and Gelu against itself
void CheckGatherRows(ConstTensorView table, absl::Span<const int32_t> ids, ConstTensorView out);
void CheckScatterRows(absl::Span<const StepBatch::Span> spans, ConstTensorView out);
void CheckCast(ConstTensorView from, ConstTensorView to);
void CheckRopeStore(ConstTensorView q, ConstTensorView k, ConstTensorView v, const RopeTable& rope,
                    const StepBatch& batch, const CacheLayer& cache);
void CheckPagedAttention(ConstTensorView q, const StepBatch& batch, const CacheLayer& cache,
                         ConstTensorView out);
void CheckFullAttention(ConstTensorView q, ConstTensorView k, ConstTensorView v,
                        const AttentionSpans& spans, int heads, ConstTensorView out);
void CheckCopyPages(absl::Span<const PageCopy> copies, const CacheLayer& cache);

}  // namespace minicpmv
