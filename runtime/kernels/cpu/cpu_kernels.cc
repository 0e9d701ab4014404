#include "runtime/kernels/cpu/cpu_kernels.h"

#include <cstring>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/cpu/verbs.h"
#include "runtime/kernels/cpu/workers.h"
#include "runtime/kernels/operand_checks.h"

namespace minicpmv {
namespace {

// Checks operands on the thread that queues, and calls the verbs of the CPU's instruction class on
// the stream's.
class CpuKernels final : public Kernels {
 public:
  CpuKernels(CpuDevice& device, const ProductVerbs& products, const RowVerbs& rows,
             const AttentionVerbs& attention)
      : device_(device),
        products_(products),
        rows_(rows),
        attention_(attention),
        workers_(device),
        stream_(device.NewStream()) {}

  Stream& stream() override { return *stream_; }
  // One class for AVX2 and AVX-512: they give the same bits.
  absl::string_view numerics_class() const override { return "cpu-fma-1"; }

  absl::StatusOr<Weight> Prepare(ConstTensorView tensor) override {
    CheckPrepare(tensor);
    if (tensor.shape.rank() > 1) {
      return Weight{ConstTensorView(tensor.data, tensor.dtype, {tensor.rows(), tensor.columns()}),
                    nullptr};
    }
    ASSIGN_OR_RETURN(std::unique_ptr<Buffer> owned,
                     device_.Allocate(sizeof(float) * tensor.rows()));
    const TensorView view(owned->data(), DType::kF32, tensor.shape);
    Cast(tensor, view);
    RETURN_IF_ERROR(stream_->Wait());
    return Weight{view, std::move(owned)};
  }

  absl::StatusOr<Weight> PrepareTransposed(ConstTensorView matrix) override {
    CheckPrepareTransposed(matrix);
    ASSIGN_OR_RETURN(std::unique_ptr<Buffer> owned, device_.Allocate(matrix.bytes()));
    const TensorView view(owned->data(), matrix.dtype, {matrix.columns(), matrix.rows()});
    matrix.dtype == DType::kF32 ? Transpose<uint32_t>(matrix, view)
                                : Transpose<uint16_t>(matrix, view);
    return Weight{view, std::move(owned)};
  }

  void MatMulMany(ConstTensorView x, absl::Span<const Product> products) override {
    CheckMatMulMany(x, products);
    stream_->Call(
        [this, x, products = absl::InlinedVector<Product, 3>(products.begin(), products.end())] {
          products_.mat_mul_many(x, products, workers_);
        });
  }

  void RmsNorm(ConstTensorView x, const Weight& weight, float epsilon, TensorView out) override {
    CheckNorm(x, weight, nullptr, out);
    stream_->Call(
        [=, this, &weight] { rows_.rms_norm(x, weight.view.as<float>(), epsilon, out, workers_); });
  }
  void AddRmsNorm(TensorView x, ConstTensorView delta, const Weight& weight, float epsilon,
                  TensorView out) override {
    CheckAddNorm(x, delta, weight, nullptr, out);
    stream_->Call([=, this, &weight] {
      rows_.add_rms_norm(x, delta, weight.view.as<float>(), epsilon, out, workers_);
    });
  }
  void LayerNorm(ConstTensorView x, const Weight& weight, const Weight& bias, float epsilon,
                 TensorView out) override {
    CheckNorm(x, weight, &bias, out);
    stream_->Call([=, this, &weight, &bias] {
      rows_.layer_norm(x, weight.view.as<float>(), bias.view.as<float>(), epsilon, out, workers_);
    });
  }
  void AddLayerNorm(TensorView x, ConstTensorView delta, const Weight& weight, const Weight& bias,
                    float epsilon, TensorView out) override {
    CheckAddNorm(x, delta, weight, &bias, out);
    stream_->Call([=, this, &weight, &bias] {
      rows_.add_layer_norm(x, delta, weight.view.as<float>(), bias.view.as<float>(), epsilon, out,
                           workers_);
    });
  }
  void Add(TensorView x, ConstTensorView delta) override {
    CheckSameRows(x, delta);
    stream_->Call([=, this] { rows_.add(x, delta, workers_); });
  }
  void SiluMul(TensorView gate, ConstTensorView up) override {
    CheckSameRows(gate, up);
    stream_->Call([=, this] { rows_.silu_mul(gate, up, workers_); });
  }
  void Gelu(TensorView x) override {
    CheckSameRows(x, x);
    stream_->Call([=, this] { rows_.gelu(x, workers_); });
  }
  void GatherRows(ConstTensorView table, absl::Span<const int32_t> ids, TensorView out) override {
    CheckGatherRows(table, ids, out);
    stream_->Call([=, this, ids = std::vector<int32_t>(ids.begin(), ids.end())] {
      rows_.gather_rows(table, ids, out, workers_);
    });
  }
  void ScatterRows(absl::Span<const StepBatch::Span> spans, TensorView out) override {
    CheckScatterRows(spans, out);
    stream_->Call([=, this] {
      for (const StepBatch::Span& span : spans) {
        rows_.cast(span.rows, out.Rows(span.first_row, span.rows.rows()), workers_);
      }
    });
  }
  void Cast(ConstTensorView from, TensorView to) override {
    CheckCast(from, to);
    stream_->Call([=, this] { rows_.cast(from, to, workers_); });
  }

  void RopeStore(TensorView q, TensorView k, ConstTensorView v, const RopeTable& rope,
                 const StepBatch& batch, const CacheLayer& cache) override {
    CheckRopeStore(q, k, v, rope, batch, cache);
    stream_->Call(
        [=, this, &batch] { attention_.rope_store(q, k, v, rope, batch, cache, workers_); });
  }
  void PagedAttention(ConstTensorView q, const StepBatch& batch, const CacheLayer& cache,
                      TensorView out) override {
    CheckPagedAttention(q, batch, cache, out);
    stream_->Call(
        [=, this, &batch] { attention_.paged_attention(q, batch, cache, out, workers_); });
  }
  void FullAttention(ConstTensorView q, ConstTensorView k, ConstTensorView v,
                     const AttentionSpans& spans, int heads, TensorView out) override {
    CheckFullAttention(q, k, v, spans, heads, out);
    stream_->Call([=, this] { attention_.full_attention(q, k, v, spans, heads, out, workers_); });
  }
  void CopyPages(absl::Span<const PageCopy> copies, const CacheLayer& cache) override {
    CheckCopyPages(copies, cache);
    stream_->Call([=] {
      uint8_t* pages = static_cast<uint8_t*>(cache.data);
      for (const PageCopy& copy : copies) {
        std::memcpy(pages + copy.to * cache.page_bytes(), pages + copy.from * cache.page_bytes(),
                    cache.page_bytes());
      }
    });
  }

 private:
  template <typename Bits>
  static void Transpose(ConstTensorView from, TensorView to) {
    const int64_t rows = from.rows(), columns = from.columns();
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = 0; r < rows; ++r)
        to.as<Bits>()[c * rows + r] = from.as<Bits>()[r * columns + c];
    }
  }

  CpuDevice& device_;
  const ProductVerbs& products_;
  const RowVerbs& rows_;
  const AttentionVerbs& attention_;
  Workers workers_;                 // on the stream's thread only
  std::unique_ptr<Stream> stream_;  // the last member: it ends before what its work needs
};

}  // namespace

absl::StatusOr<std::unique_ptr<Kernels>> MakeCpuKernels(CpuDevice& device) {
  const ProductVerbs* products = GetProductVerbs();
  const RowVerbs* rows = GetRowVerbs();
  const AttentionVerbs* attention = GetAttentionVerbs();
  if (products == nullptr || rows == nullptr || attention == nullptr) {
    return absl::UnimplementedError(
        "this CPU lacks AVX2 with fused multiply-add (FMA), which the kernels need");
  }
  return std::make_unique<CpuKernels>(device, *products, *rows, *attention);
}

}  // namespace minicpmv
