#pragma once

#include <memory>

#include "runtime/kernels/kernels.h"

namespace minicpmv {

// The shortest right loop for each verb: sums in double precision, one thread, any host device. The
// judge of all others.
class ReferenceKernels final : public Kernels {
 public:
  // `device` holds its bytes on the host and outlives the kernels.
  explicit ReferenceKernels(Device& device) : device_(device), stream_(device.NewStream()) {}

  Stream& stream() override { return *stream_; }
  absl::string_view numerics_class() const override { return "reference-1"; }

  absl::StatusOr<Weight> Prepare(ConstTensorView tensor) override;
  absl::StatusOr<Weight> PrepareTransposed(ConstTensorView matrix) override;

  void MatMulMany(ConstTensorView x, absl::Span<const Product> products) override;

  void RmsNorm(ConstTensorView x, const Weight& weight, float epsilon, TensorView out) override;
  void AddRmsNorm(TensorView x, ConstTensorView delta, const Weight& weight, float epsilon,
                  TensorView out) override;
  void LayerNorm(ConstTensorView x, const Weight& weight, const Weight& bias, float epsilon,
                 TensorView out) override;
  void AddLayerNorm(TensorView x, ConstTensorView delta, const Weight& weight, const Weight& bias,
                    float epsilon, TensorView out) override;
  void Add(TensorView x, ConstTensorView delta) override;
  void SiluMul(TensorView gate, ConstTensorView up) override;
  void Gelu(TensorView x) override;
  void GatherRows(ConstTensorView table, absl::Span<const int32_t> ids, TensorView out) override;
  void ScatterRows(absl::Span<const StepBatch::Span> spans, TensorView out) override;
  void Cast(ConstTensorView from, TensorView to) override;

  void RopeStore(TensorView q, TensorView k, ConstTensorView v, const RopeTable& rope,
                 const StepBatch& batch, const CacheLayer& cache) override;
  void PagedAttention(ConstTensorView q, const StepBatch& batch, const CacheLayer& cache,
                      TensorView out) override;
  void FullAttention(ConstTensorView q, ConstTensorView k, ConstTensorView v,
                     const AttentionSpans& spans, int heads, TensorView out) override;
  void CopyPages(absl::Span<const PageCopy> copies, const CacheLayer& cache) override;

 private:
  Device& device_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace minicpmv
