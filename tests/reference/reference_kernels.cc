#include "tests/reference/reference_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "runtime/base/status_macros.h"
#include "runtime/kernels/operand_checks.h"

namespace minicpmv {
namespace {

float Read(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float*>(data)[i];
    case DType::kBF16:
      return BF16ToFloat(static_cast<const uint16_t*>(data)[i]);
    case DType::kF16:
      return F16ToFloat(static_cast<const uint16_t*>(data)[i]);
    default:
      CHECK(false) << NameOf(dtype);
      return 0;
  }
}

float Read(ConstTensorView view, int64_t i) { return Read(view.data, view.dtype, i); }

void Write(void* data, DType dtype, int64_t i, float value) {
  switch (dtype) {
    case DType::kF32:
      static_cast<float*>(data)[i] = value;
      return;
    case DType::kBF16:
      static_cast<uint16_t*>(data)[i] = FloatToBF16(value);
      return;
    case DType::kF16:
      static_cast<uint16_t*>(data)[i] = FloatToF16(value);
      return;
    default:
      CHECK(false) << NameOf(dtype);
  }
}

void NormRow(const float* x, int64_t columns, bool centre, const float* weight, const float* bias,
             float epsilon, float* out) {
  double mean = 0, variance = 0;
  if (centre) {
    for (int64_t c = 0; c < columns; ++c) mean += x[c];
    mean /= static_cast<double>(columns);
  }
  for (int64_t c = 0; c < columns; ++c) variance += (x[c] - mean) * (x[c] - mean);
  const double scale = 1 / std::sqrt(variance / static_cast<double>(columns) + epsilon);
  for (int64_t c = 0; c < columns; ++c) {
    out[c] =
        static_cast<float>((x[c] - mean) * scale * weight[c] + (bias != nullptr ? bias[c] : 0));
  }
}

void Norm(ConstTensorView x, const Weight& weight, const Weight* bias, float epsilon,
          TensorView out) {
  for (int64_t r = 0; r < x.rows(); ++r) {
    const int64_t first = r * x.columns();
    NormRow(x.as<float>() + first, x.columns(), bias != nullptr, weight.view.as<float>(),
            bias != nullptr ? bias->view.as<float>() : nullptr, epsilon, out.as<float>() + first);
  }
}

void AddTo(TensorView x, ConstTensorView delta) {
  for (int64_t i = 0; i < x.shape.elements(); ++i) x.as<float>()[i] += delta.as<float>()[i];
}

// One query of one head; key(j, i) and value(j, i) are element i of position j.
template <typename Key, typename Value>
void Attend(const float* q, int64_t keys, int head_size, const Key& key, const Value& value,
            float* out) {
  std::vector<double> scores(static_cast<size_t>(keys));
  for (int64_t j = 0; j < keys; ++j) {
    for (int i = 0; i < head_size; ++i) scores[j] += double{q[i]} * key(j, i);
    scores[j] /= std::sqrt(static_cast<double>(head_size));
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  for (int i = 0; i < head_size; ++i) {
    double mix = 0;
    for (int64_t j = 0; j < keys; ++j) mix += scores[j] / sum * value(j, i);
    out[i] = static_cast<float>(mix);
  }
}

// Element 0 of a key (or value) head at one position of one piece, counted in elements of the
// cache.
int64_t CacheOffset(const StepBatch& batch, int piece, int64_t position, bool value, int kv_head,
                    const CacheLayer& cache) {
  const int64_t page = batch.pages[batch.page_starts[piece] + position / kPageSize];
  return page * cache.page_elements() +
         ((value ? cache.kv_heads : 0) + kv_head) * cache.head_elements() +
         position % kPageSize * cache.head_size;
}

}  // namespace

absl::StatusOr<Weight> ReferenceKernels::Prepare(ConstTensorView tensor) {
  CheckPrepare(tensor);
  if (tensor.shape.rank() > 1) {
    return Weight{ConstTensorView(tensor.data, tensor.dtype, {tensor.rows(), tensor.columns()}),
                  nullptr};
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Buffer> owned, device_.Allocate(sizeof(float) * tensor.rows()));
  const TensorView view(owned->data(), DType::kF32, tensor.shape);
  for (int64_t i = 0; i < tensor.rows(); ++i) view.as<float>()[i] = Read(tensor, i);
  return Weight{view, std::move(owned)};
}

absl::StatusOr<Weight> ReferenceKernels::PrepareTransposed(ConstTensorView matrix) {
  CheckPrepareTransposed(matrix);
  const int64_t rows = matrix.rows(), columns = matrix.columns();
  ASSIGN_OR_RETURN(std::unique_ptr<Buffer> owned, device_.Allocate(matrix.bytes()));
  const TensorView view(owned->data(), matrix.dtype, {columns, rows});
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c)
      Write(view.data, view.dtype, c * rows + r, Read(matrix, r * columns + c));
  }
  return Weight{view, std::move(owned)};
}

void ReferenceKernels::MatMulMany(ConstTensorView x, absl::Span<const Product> products) {
  CheckMatMulMany(x, products);
  for (const Product& product : products) {
    stream_->Call([x, product] {
      const ConstTensorView weight = product.weight->view;
      const int64_t columns = x.columns();
      for (int64_t r = 0; r < x.rows(); ++r) {
        for (int64_t n = 0; n < weight.rows(); ++n) {
          double sum = 0;
          for (int64_t k = 0; k < columns; ++k)
            sum += double{x.as<float>()[r * columns + k]} * Read(weight, n * columns + k);
          if (product.bias != nullptr) sum += product.bias->view.as<float>()[n];
          product.out.as<float>()[r * weight.rows() + n] = static_cast<float>(sum);
        }
      }
    });
  }
}

void ReferenceKernels::RmsNorm(ConstTensorView x, const Weight& weight, float epsilon,
                               TensorView out) {
  CheckNorm(x, weight, nullptr, out);
  stream_->Call([=, &weight] { Norm(x, weight, nullptr, epsilon, out); });
}

void ReferenceKernels::AddRmsNorm(TensorView x, ConstTensorView delta, const Weight& weight,
                                  float epsilon, TensorView out) {
  CheckAddNorm(x, delta, weight, nullptr, out);
  stream_->Call([=, &weight] {
    AddTo(x, delta);
    Norm(x, weight, nullptr, epsilon, out);
  });
}

void ReferenceKernels::LayerNorm(ConstTensorView x, const Weight& weight, const Weight& bias,
                                 float epsilon, TensorView out) {
  CheckNorm(x, weight, &bias, out);
  stream_->Call([=, &weight, &bias] { Norm(x, weight, &bias, epsilon, out); });
}

void ReferenceKernels::AddLayerNorm(TensorView x, ConstTensorView delta, const Weight& weight,
                                    const Weight& bias, float epsilon, TensorView out) {
  CheckAddNorm(x, delta, weight, &bias, out);
  stream_->Call([=, &weight, &bias] {
    AddTo(x, delta);
    Norm(x, weight, &bias, epsilon, out);
  });
}

void ReferenceKernels::Add(TensorView x, ConstTensorView delta) {
  CheckSameRows(x, delta);
  stream_->Call([=] { AddTo(x, delta); });
}

void ReferenceKernels::SiluMul(TensorView gate, ConstTensorView up) {
  CheckSameRows(gate, up);
  stream_->Call([=] {
    for (int64_t i = 0; i < gate.shape.elements(); ++i) {
      const double g = gate.as<float>()[i];
      gate.as<float>()[i] = static_cast<float>(g / (1 + std::exp(-g)) * up.as<float>()[i]);
    }
  });
}

void ReferenceKernels::Gelu(TensorView x) {
  CheckSameRows(x, x);
  stream_->Call([=] {
    const double root = std::sqrt(2 / std::acos(-1.0));
    for (int64_t i = 0; i < x.shape.elements(); ++i) {
      const double value = x.as<float>()[i];
      x.as<float>()[i] = static_cast<float>(
          value / 2 * (1 + std::tanh(root * (value + 0.044715 * value * value * value))));
    }
  });
}

void ReferenceKernels::GatherRows(ConstTensorView table, absl::Span<const int32_t> ids,
                                  TensorView out) {
  CheckGatherRows(table, ids, out);
  stream_->Call([table, out, ids = std::vector<int32_t>(ids.begin(), ids.end())] {
    const int64_t columns = table.columns();
    for (size_t r = 0; r < ids.size(); ++r) {
      for (int64_t c = 0; c < columns; ++c)
        out.as<float>()[r * columns + c] = Read(table, ids[r] * columns + c);
    }
  });
}

void ReferenceKernels::ScatterRows(absl::Span<const StepBatch::Span> spans, TensorView out) {
  CheckScatterRows(spans, out);
  stream_->Call([=] {
    for (const StepBatch::Span& span : spans) {
      float* target = out.as<float>() + span.first_row * out.columns();
      for (int64_t i = 0; i < span.rows.shape.elements(); ++i) target[i] = Read(span.rows, i);
    }
  });
}

void ReferenceKernels::Cast(ConstTensorView from, TensorView to) {
  CheckCast(from, to);
  stream_->Call([=] {
    for (int64_t i = 0; i < from.shape.elements(); ++i) Write(to.data, to.dtype, i, Read(from, i));
  });
}

void ReferenceKernels::RopeStore(TensorView q, TensorView k, ConstTensorView v,
                                 const RopeTable& rope, const StepBatch& batch,
                                 const CacheLayer& cache) {
  CheckRopeStore(q, k, v, rope, batch, cache);
  stream_->Call([=, &batch] {
    const int64_t half = cache.head_size / 2;
    const auto rotate = [&](float* head, int64_t position) {
      for (int64_t i = 0; i < half; ++i) {
        const double a = head[i], b = head[i + half];
        const double cosine = rope.cosines.as<float>()[position * half + i];
        const double sine = rope.sines.as<float>()[position * half + i];
        head[i] = static_cast<float>(a * cosine - b * sine);
        head[i + half] = static_cast<float>(b * cosine + a * sine);
      }
    };
    for (int piece = 0; piece < batch.pieces(); ++piece) {
      for (int64_t r = batch.query_starts[piece]; r < batch.query_starts[piece + 1]; ++r) {
        const int64_t position = batch.positions[r];
        for (int64_t c = 0; c < q.columns(); c += cache.head_size) {
          rotate(q.as<float>() + r * q.columns() + c, position);
        }
        for (int head = 0; head < cache.kv_heads; ++head) {
          const int64_t first = r * k.columns() + head * cache.head_size;
          rotate(k.as<float>() + first, position);
          const int64_t key = CacheOffset(batch, piece, position, false, head, cache);
          const int64_t value = CacheOffset(batch, piece, position, true, head, cache);
          for (int64_t i = 0; i < cache.head_size; ++i) {
            Write(cache.data, cache.dtype, key + i, k.as<float>()[first + i]);
            Write(cache.data, cache.dtype, value + i, v.as<float>()[first + i]);
          }
        }
      }
    }
  });
}

void ReferenceKernels::PagedAttention(ConstTensorView q, const StepBatch& batch,
                                      const CacheLayer& cache, TensorView out) {
  CheckPagedAttention(q, batch, cache, out);
  stream_->Call([=, &batch] {
    const int heads = static_cast<int>(q.columns() / cache.head_size),
              group = heads / cache.kv_heads;
    for (int piece = 0; piece < batch.pieces(); ++piece) {
      for (int64_t r = batch.query_starts[piece]; r < batch.query_starts[piece + 1]; ++r) {
        for (int head = 0; head < heads; ++head) {
          const auto read = [&](bool value, int64_t j, int64_t i) -> double {
            return Read(cache.data, cache.dtype,
                        CacheOffset(batch, piece, j, value, head / group, cache) + i);
          };
          const int64_t first = r * q.columns() + head * cache.head_size;
          Attend(
              q.as<float>() + first, batch.positions[r] + 1, cache.head_size,
              [&](int64_t j, int64_t i) { return read(false, j, i); },
              [&](int64_t j, int64_t i) { return read(true, j, i); }, out.as<float>() + first);
        }
      }
    }
  });
}

void ReferenceKernels::FullAttention(ConstTensorView q, ConstTensorView k, ConstTensorView v,
                                     const AttentionSpans& spans, int heads, TensorView out) {
  CheckFullAttention(q, k, v, spans, heads, out);
  stream_->Call([=] {
    const int head_size = static_cast<int>(q.columns() / heads);
    for (size_t span = 0; span + 1 < spans.query_starts.size(); ++span) {
      const int64_t first_key = spans.key_starts[span],
                    keys = spans.key_starts[span + 1] - first_key;
      for (int64_t r = spans.query_starts[span]; r < spans.query_starts[span + 1]; ++r) {
        for (int head = 0; head < heads; ++head) {
          const auto read = [&](ConstTensorView of, int64_t j, int64_t i) -> double {
            return of.as<float>()[(first_key + j) * of.columns() + head * head_size + i];
          };
          const int64_t first = r * q.columns() + head * head_size;
          Attend(
              q.as<float>() + first, keys, head_size,
              [&](int64_t j, int64_t i) { return read(k, j, i); },
              [&](int64_t j, int64_t i) { return read(v, j, i); }, out.as<float>() + first);
        }
      }
    }
  });
}

void ReferenceKernels::CopyPages(absl::Span<const PageCopy> copies, const CacheLayer& cache) {
  CheckCopyPages(copies, cache);
  stream_->Call([=] {
    char* pages = static_cast<char*>(cache.data);
    for (const PageCopy& copy : copies) {
      std::memcpy(pages + copy.to * cache.page_bytes(), pages + copy.from * cache.page_bytes(),
                  cache.page_bytes());
    }
  });
}

}  // namespace minicpmv
