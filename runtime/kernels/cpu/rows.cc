// The verbs whose result is a function of single elements or of one row.

#include <algorithm>
#include <cmath>

#include "runtime/kernels/cpu/targets.h"
#include "runtime/kernels/cpu/verbs.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/cpu/rows.cc"
#include "hwy/foreach_target.h"
#include "runtime/kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace minicpmv {
namespace HWY_NAMESPACE {
#if HWY_MAX_BYTES >= 32

// Elements of flat arrays are split at multiples of this.
constexpr int64_t kGrain = 4096;

// Splits rows [0, x.rows()) over the workers; `steps` is the vector steps that one vector of a row
// takes.
template <typename Work>
void SplitRows(ConstTensorView x, int64_t steps, Workers& workers, const Work& work) {
  const int64_t columns = x.columns();
  workers.Split(x.rows(), 1, x.rows() * (columns / 8 + 1) * steps,
                [&](int64_t first, int64_t last) {
                  for (int64_t r = first; r < last; ++r) work(r, r * columns, columns);
                });
}

// x += delta
HWY_INLINE void AddRow(float* x, const float* delta, int64_t columns) {
  ForEach8(columns, [&](auto load, auto store, int64_t c) {
    store(hn::Add(load(x + c), load(delta + c)), x + c);
  });
}

// out = x / sqrt(mean(x^2) + epsilon) * weight
HWY_INLINE void RmsRow(const float* x, const float* weight, float epsilon, int64_t columns,
                       float* out) {
  V8 squares = hn::Zero(f8);
  ForEach8(columns, [&](auto load, auto, int64_t c) {
    const V8 v = load(x + c);
    squares = hn::MulAdd(v, v, squares);
  });
  const float scale = 1 / std::sqrt(SumLanes(squares) / static_cast<float>(columns) + epsilon);
  ForEach8(columns, [&](auto load, auto store, int64_t c) {
    store(hn::Mul(hn::Mul(load(x + c), hn::Set(f8, scale)), load(weight + c)), out + c);
  });
}

// out = (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias
HWY_INLINE void LayerRow(const float* x, const float* weight, const float* bias, float epsilon,
                         int64_t columns, float* out) {
  V8 sum = hn::Zero(f8);
  ForEach8(columns, [&](auto load, auto, int64_t c) { sum = hn::Add(sum, load(x + c)); });
  const V8 mean = hn::Set(f8, SumLanes(sum) / static_cast<float>(columns));
  V8 squares = hn::Zero(f8);
  ForEach8(columns, [&](auto load, auto, int64_t c) {
    V8 v = hn::Sub(load(x + c), mean);
    if (c + 8 > columns)
      v = hn::IfThenElseZero(hn::FirstN(f8, static_cast<size_t>(columns - c)),
                             v);  // no -mean there
    squares = hn::MulAdd(v, v, squares);
  });
  const float scale = 1 / std::sqrt(SumLanes(squares) / static_cast<float>(columns) + epsilon);
  ForEach8(columns, [&](auto load, auto store, int64_t c) {
    const V8 v = hn::Mul(hn::Sub(load(x + c), mean), hn::Set(f8, scale));
    store(hn::MulAdd(v, load(weight + c), load(bias + c)), out + c);
  });
}

void RmsNorm(ConstTensorView x, const float* weight, float epsilon, TensorView out,
             Workers& workers) {
  SplitRows(x, 4, workers, [&](int64_t, int64_t first, int64_t columns) {
    RmsRow(x.as<float>() + first, weight, epsilon, columns, out.as<float>() + first);
  });
}

void AddRmsNorm(TensorView x, ConstTensorView delta, const float* weight, float epsilon,
                TensorView out, Workers& workers) {
  SplitRows(x, 5, workers, [&](int64_t, int64_t first, int64_t columns) {
    float* row = x.as<float>() + first;
    AddRow(row, delta.as<float>() + first, columns);
    RmsRow(row, weight, epsilon, columns, out.as<float>() + first);
  });
}

void LayerNorm(ConstTensorView x, const float* weight, const float* bias, float epsilon,
               TensorView out, Workers& workers) {
  SplitRows(x, 5, workers, [&](int64_t, int64_t first, int64_t columns) {
    LayerRow(x.as<float>() + first, weight, bias, epsilon, columns, out.as<float>() + first);
  });
}

void AddLayerNorm(TensorView x, ConstTensorView delta, const float* weight, const float* bias,
                  float epsilon, TensorView out, Workers& workers) {
  SplitRows(x, 6, workers, [&](int64_t, int64_t first, int64_t columns) {
    float* row = x.as<float>() + first;
    AddRow(row, delta.as<float>() + first, columns);
    LayerRow(row, weight, bias, epsilon, columns, out.as<float>() + first);
  });
}

// Splits a flat array; work(load, store, i) does one vector.
template <typename Work>
void SplitFlat(int64_t size, int64_t steps, Workers& workers, const Work& work) {
  workers.Split(size, kGrain, size / 8 * steps, [&](int64_t first, int64_t last) {
    ForEach8(last - first, [&](auto load, auto store, int64_t i) { work(load, store, first + i); });
  });
}

void Add(TensorView x, ConstTensorView delta, Workers& workers) {
  float* to = x.as<float>();
  const float* from = delta.as<float>();
  SplitFlat(x.shape.elements(), 1, workers, [&](auto load, auto store, int64_t i) {
    store(hn::Add(load(to + i), load(from + i)), to + i);
  });
}

// x / (1 + exp(-u))
HWY_INLINE V8 Gate(V8 x, V8 u) {
  return hn::Div(x, hn::Add(hn::Set(f8, 1.0f), Exp(f8, hn::Neg(u))));
}

void SiluMul(TensorView gate, ConstTensorView up, Workers& workers) {
  float* to = gate.as<float>();
  const float* from = up.as<float>();
  SplitFlat(gate.shape.elements(), 4, workers, [&](auto load, auto store, int64_t i) {
    const V8 g = load(to + i);
    store(hn::Mul(Gate(g, g), load(from + i)), to + i);
  });
}

void Gelu(TensorView x, Workers& workers) {
  float* to = x.as<float>();
  SplitFlat(x.shape.elements(), 4, workers, [&](auto load, auto store, int64_t i) {
    const V8 v = load(to + i);
    // (1 + tanh(u)) / 2 is 1 / (1 + exp(-2u)).
    const V8 cubic = hn::MulAdd(hn::Mul(hn::Set(f8, 0.044715f), hn::Mul(v, v)), v, v);
    store(Gate(v, hn::Mul(hn::Set(f8, 2 * 0.7978845608f), cubic)), to + i);
  });
}

void GatherRows(ConstTensorView table, absl::Span<const int32_t> ids, TensorView out,
                Workers& workers) {
  const int64_t columns = out.columns();
  WithDType(table.dtype, [&](auto element) {
    const auto* from = table.as<decltype(element)>();
    SplitRows(out, 2, workers, [&](int64_t r, int64_t first, int64_t) {
      const auto* row = from + ids[static_cast<size_t>(r)] * columns;
      float* target = out.as<float>() + first;
      ForEach8(columns,
               [&](auto load, auto store, int64_t c) { store(load(row + c), target + c); });
    });
  });
}

void Cast(ConstTensorView from, TensorView to, Workers& workers) {
  WithDType(from.dtype, [&](auto source_element) {
    WithDType(to.dtype, [&](auto target_element) {
      const auto* source = from.as<decltype(source_element)>();
      auto* target = to.as<decltype(target_element)>();
      SplitFlat(from.shape.elements(), 2, workers,
                [&](auto load, auto store, int64_t i) { store(load(source + i), target + i); });
    });
  });
}

const RowVerbs* FindRowVerbs() {
  static constexpr RowVerbs kVerbs = {RmsNorm, AddRmsNorm, LayerNorm,  AddLayerNorm, Add,
                                      SiluMul, Gelu,       GatherRows, Cast};
  return &kVerbs;
}

#else
const RowVerbs* FindRowVerbs() { return nullptr; }
#endif
}  // namespace HWY_NAMESPACE
}  // namespace minicpmv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace minicpmv {

HWY_EXPORT(FindRowVerbs);
const RowVerbs* GetRowVerbs() { return HWY_DYNAMIC_DISPATCH(FindRowVerbs)(); }

}  // namespace minicpmv
#endif
