#include "runtime/kernels/operand_checks.h"

#include "runtime/base/check.h"

namespace minicpmv {
namespace {

bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

void CheckActivations(ConstTensorView view) {
  CHECK(view.dtype == DType::kF32) << NameOf(view.dtype) << " is not float32";
}

void CheckSize(ConstTensorView view, int64_t rows, int64_t columns) {
  CHECK(view.rows() == rows && (rows == 0 || view.columns() == columns))
      << view.shape.ToString() << " is not [" << rows << ", " << columns << "]";
}

void CheckVector(const Weight& vector, int64_t size) {
  CheckActivations(vector.view);
  CHECK_EQ(vector.view.shape.elements(), size);
}

// Every position of the step has its page, and every page lies in the cache.
void CheckBatch(const StepBatch& batch, const CacheLayer& cache) {
  CHECK(cache.kv_heads > 0 && cache.head_size > 0)
      << cache.kv_heads << " heads of " << cache.head_size;
  CHECK(IsFloat(cache.dtype)) << NameOf(cache.dtype);
  CHECK_GE(batch.pieces(), 0);
  CHECK_EQ(batch.positions.size(), batch.tokens.size());
  CHECK_EQ(batch.page_starts.size(), batch.query_starts.size());
  CHECK_EQ(batch.query_starts.front(), 0);
  CHECK_EQ(batch.query_starts.back(), batch.rows());
  for (int i = 0; i < batch.pieces(); ++i) {
    const int32_t first = batch.query_starts[i], last = batch.query_starts[i + 1] - 1;
    CHECK_LE(first, last) << "piece " << i << " is empty ";
    CHECK(batch.positions[first] >= 0 &&
          batch.positions[last] == batch.positions[first] + (last - first))
        << "piece " << i << " has the positions " << batch.positions[first] << " to "
        << batch.positions[last];
    CHECK_LT(batch.positions[last] / kPageSize, batch.page_starts[i + 1] - batch.page_starts[i])
        << "piece " << i << " ";
  }
  CHECK_LE(batch.page_starts.back(), static_cast<int64_t>(batch.pages.size()));
  for (const int32_t page : batch.pages)
    CHECK(page >= 0 && page < cache.pages) << page << " of " << cache.pages;
}

}  // namespace

void CheckPrepare(ConstTensorView tensor) {
  CHECK(IsFloat(tensor.dtype)) << NameOf(tensor.dtype);
  CHECK_GE(tensor.shape.rank(), 1);
}

void CheckPrepareTransposed(ConstTensorView matrix) {
  CheckPrepare(matrix);
  CHECK_EQ(matrix.shape.rank(), 2);
}

void CheckMatMulMany(ConstTensorView x, absl::Span<const Product> products) {
  CheckActivations(x);
  for (const Product& product : products) {
    const ConstTensorView weight = product.weight->view;
    CHECK(IsFloat(weight.dtype)) << NameOf(weight.dtype);
    CHECK(x.rows() == 0 || weight.columns() == x.columns())
        << x.shape.ToString() << " times " << weight.shape.ToString();
    CheckActivations(product.out);
    CheckSize(product.out, x.rows(), weight.rows());
    if (product.bias != nullptr) CheckVector(*product.bias, weight.rows());
  }
}

void CheckNorm(ConstTensorView x, const Weight& weight, const Weight* bias, ConstTensorView out) {
  CheckActivations(x);
  CheckActivations(out);
  CheckSize(out, x.rows(), x.columns());
  if (x.rows() == 0) return;
  CheckVector(weight, x.columns());
  if (bias != nullptr) CheckVector(*bias, x.columns());
}

void CheckAddNorm(ConstTensorView x, ConstTensorView delta, const Weight& weight,
                  const Weight* bias, ConstTensorView out) {
  CheckNorm(x, weight, bias, out);
  CheckSameRows(x, delta);
  CHECK(x.rows() == 0 || (out.data != x.data && out.data != delta.data));
}

void CheckSameRows(ConstTensorView a, ConstTensorView b) {
  CheckActivations(a);
  CheckActivations(b);
  CheckSize(b, a.rows(), a.columns());
}

void CheckGatherRows(ConstTensorView table, absl::Span<const int32_t> ids, ConstTensorView out) {
  CHECK(IsFloat(table.dtype)) << NameOf(table.dtype);
  CheckActivations(out);
  CheckSize(out, static_cast<int64_t>(ids.size()), table.columns());
  for (const int32_t id : ids) CHECK(id >= 0 && id < table.rows()) << id << " of " << table.rows();
}

void CheckScatterRows(absl::Span<const StepBatch::Span> spans, ConstTensorView out) {
  CheckActivations(out);
  for (const StepBatch::Span& span : spans) {
    CHECK(IsFloat(span.rows.dtype)) << NameOf(span.rows.dtype);
    CHECK(span.first_row >= 0 && span.rows.rows() <= out.rows() - span.first_row)
        << span.first_row << "+" << span.rows.rows() << " of " << out.rows();
    CHECK(span.rows.rows() == 0 || span.rows.columns() == out.columns())
        << span.rows.shape.ToString() << " into " << out.shape.ToString();
  }
}

void CheckCast(ConstTensorView from, ConstTensorView to) {
  CHECK(IsFloat(from.dtype) && IsFloat(to.dtype))
      << NameOf(from.dtype) << " to " << NameOf(to.dtype);
  CHECK_EQ(from.shape.elements(), to.shape.elements());
}

void CheckRopeStore(ConstTensorView q, ConstTensorView k, ConstTensorView v, const RopeTable& rope,
                    const StepBatch& batch, const CacheLayer& cache) {
  CheckBatch(batch, cache);
  CheckActivations(q);
  CheckActivations(k);
  CheckActivations(v);
  const int64_t width = int64_t{cache.kv_heads} * cache.head_size;
  CHECK_EQ(cache.head_size % 2, 0);
  CHECK_EQ(q.rows(), batch.rows());
  CHECK_EQ(q.columns() % width, 0);
  CheckSize(k, batch.rows(), width);
  CheckSize(v, batch.rows(), width);
  CheckActivations(rope.cosines);
  CheckActivations(rope.sines);
  CHECK_EQ(rope.cosines.columns(), cache.head_size / 2);
  CheckSize(rope.sines, rope.cosines.rows(), cache.head_size / 2);
  for (const int32_t position : batch.positions) CHECK_LT(position, rope.cosines.rows());
}

void CheckPagedAttention(ConstTensorView q, const StepBatch& batch, const CacheLayer& cache,
                         ConstTensorView out) {
  CheckBatch(batch, cache);
  CheckSameRows(q, out);
  CHECK_EQ(q.rows(), batch.rows());
  CHECK_EQ(q.columns() % (int64_t{cache.kv_heads} * cache.head_size), 0);
  CHECK(q.rows() == 0 || q.data != out.data);
}

void CheckFullAttention(ConstTensorView q, ConstTensorView k, ConstTensorView v,
                        const AttentionSpans& spans, int heads, ConstTensorView out) {
  CheckSameRows(q, out);
  CheckSameRows(k, v);
  CHECK_GT(heads, 0);
  CHECK_EQ(q.columns() % heads, 0);
  CHECK(q.rows() == 0 || k.rows() == 0 || q.columns() == k.columns())
      << q.shape.ToString() << " against " << k.shape.ToString();
  CHECK(q.rows() == 0 || q.data != out.data);
  CHECK_EQ(spans.query_starts.size(), spans.key_starts.size());
  CHECK(!spans.query_starts.empty());
  CHECK_EQ(spans.query_starts.front(), 0);
  CHECK_EQ(spans.query_starts.back(), q.rows());
  CHECK_GE(spans.key_starts.front(), 0);
  CHECK_LE(spans.key_starts.back(), k.rows());
  for (size_t i = 0; i + 1 < spans.query_starts.size(); ++i) {
    CHECK_LE(spans.query_starts[i], spans.query_starts[i + 1]);
    CHECK_LT(spans.key_starts[i], spans.key_starts[i + 1]) << "a span sees no key ";
  }
}

void CheckCopyPages(absl::Span<const PageCopy> copies, const CacheLayer& cache) {
  for (const PageCopy& copy : copies) {
    CHECK(copy.from >= 0 && copy.from < cache.pages && copy.to >= 0 && copy.to < cache.pages &&
          copy.from != copy.to)
        << copy.from << " to " << copy.to << " of " << cache.pages;
  }
}

}  // namespace minicpmv
