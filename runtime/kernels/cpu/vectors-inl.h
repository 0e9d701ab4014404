// Vectors as all kernels use them; compiled once for each instruction class.
//
// Whatever is summed here is summed in an order that does not depend on the vector width, so AVX2
// and AVX-512 give the same bits: either in eight lanes exactly (F8), or with each lane a result of
// its own (any width).

#if defined(MINICPMV_RUNTIME_KERNELS_CPU_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MINICPMV_RUNTIME_KERNELS_CPU_VECTORS_INL_H_
#undef MINICPMV_RUNTIME_KERNELS_CPU_VECTORS_INL_H_
#else
#define MINICPMV_RUNTIME_KERNELS_CPU_VECTORS_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "runtime/base/check.h"
#include "runtime/tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace minicpmv {
namespace HWY_NAMESPACE {
#if HWY_MAX_BYTES >= 32

namespace hn = hwy::HWY_NAMESPACE;

// Elements of matrices and caches by type.
struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

// Calls work with an element of the type that `dtype` stands for: WithDType(dtype, [&](auto zero) {
// ... decltype(zero) ... }).
template <typename Work>
HWY_INLINE void WithDType(DType dtype, const Work& work) {
  switch (dtype) {
    case DType::kF32:
      return work(float{});
    case DType::kBF16:
      return work(BF16{});
    case DType::kF16:
      return work(F16{});
    default:
      CHECK(false) << NameOf(dtype);
  }
}

using F8 = hn::FixedTag<float, 8>;
using V8 = hn::Vec<F8>;
inline constexpr F8 f8;

// Keeps a loaded vector in its register for several uses: g++ would load it again for each
// multiply-add.
HWY_INLINE V8 InRegister(V8 v) {
  asm("" : "+v"(v.raw));
  return v;
}

// Eight neighbours, widened. Exact.
HWY_INLINE V8 Load8(const float* p) { return hn::LoadU(f8, p); }
HWY_INLINE V8 Load8(const BF16* p) {
  const hn::FixedTag<uint16_t, 8> u16;
  const hn::FixedTag<uint32_t, 8> u32;
  return hn::BitCast(f8, hn::ShiftLeft<16>(hn::PromoteTo(u32, hn::LoadU(u16, &p->bits))));
}
HWY_INLINE V8 Load8(const F16* p) {
  const hn::FixedTag<uint16_t, 8> u16;
  const hn::FixedTag<hwy::float16_t, 8> f16;
  return hn::PromoteTo(f8, hn::BitCast(f16, hn::LoadU(u16, &p->bits)));
}

// Eight neighbours, rounded to nearest even; NaN stays NaN.
HWY_INLINE void Store8(V8 v, float* p) { hn::StoreU(v, f8, p); }
HWY_INLINE void Store8(V8 v, BF16* p) {
  const hn::FixedTag<uint16_t, 8> u16;
  const hn::FixedTag<uint32_t, 8> u32;
  const auto bits = hn::BitCast(u32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u32, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(u32, 0x7fff))));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(u32, 0x40));
  const auto is_nan = hn::RebindMask(u32, hn::IsNaN(v));
  hn::StoreU(hn::DemoteTo(u16, hn::BitCast(hn::FixedTag<int32_t, 8>(),
                                           hn::IfThenElse(is_nan, quiet, rounded))),
             u16, &p->bits);
}
HWY_INLINE void Store8(V8 v, F16* p) {
  const hn::FixedTag<uint16_t, 8> u16;
  const hn::FixedTag<hwy::float16_t, 8> f16;
  hn::StoreU(hn::BitCast(u16, hn::DemoteTo(f16, v)), u16, &p->bits);
}

// The first `count` < 8 of them; zero in the other lanes.
template <typename T>
HWY_INLINE V8 LoadPart(const T* p, int64_t count) {
  T part[8] = {};
  std::memcpy(part, p, static_cast<size_t>(count) * sizeof(T));
  return Load8(part);
}
template <typename T>
HWY_INLINE void StorePart(V8 v, T* p, int64_t count) {
  T part[8];
  Store8(v, part);
  std::memcpy(p, part, static_cast<size_t>(count) * sizeof(T));
}

// Calls each(load, store, i): i rises by eight up to `size`; load(p) reads what lies at p, and
// store(v, p) writes it, cut to what is left.
template <typename Each>
HWY_INLINE void ForEach8(int64_t size, const Each& each) {
  int64_t i = 0;
  for (; i + 8 <= size; i += 8) {
    each([](const auto* p) { return Load8(p); }, [](V8 v, auto* p) { Store8(v, p); }, i);
  }
  if (i < size) {
    const int64_t left = size - i;
    each([left](const auto* p) { return LoadPart(p, left); },
         [left](V8 v, auto* p) { StorePart(v, p, left); }, i);
  }
}

// (l0+l4 + l2+l6) + (l1+l5 + l3+l7)
HWY_INLINE float SumLanes(V8 v) {
  const hn::FixedTag<float, 4> f4;
  const auto halves = hn::Add(hn::LowerHalf(f4, v), hn::UpperHalf(f4, v));
  const auto quarters = hn::Add(halves, hn::Shuffle1032(halves));
  return hn::GetLane(quarters) + hn::GetLane(hn::Shuffle2301(quarters));
}

// Rows become columns.
HWY_INLINE void Transpose8(V8 (&v)[8]) {
  const hn::FixedTag<double, 4> f64;
  const auto pairs = [&](V8 a, V8 b, V8& low, V8& high) {  // of 64 bits
    low = hn::BitCast(f8, hn::InterleaveLower(f64, hn::BitCast(f64, a), hn::BitCast(f64, b)));
    high = hn::BitCast(f8, hn::InterleaveUpper(f64, hn::BitCast(f64, a), hn::BitCast(f64, b)));
  };
  V8 a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    a[i] = hn::InterleaveLower(f8, v[i], v[i + 1]);
    a[i + 1] = hn::InterleaveUpper(f8, v[i], v[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    pairs(a[i], a[i + 2], b[i], b[i + 1]);
    pairs(a[i + 1], a[i + 3], b[i + 2], b[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    v[i] = hn::ConcatLowerLower(f8, b[i + 4], b[i]);
    v[i + 4] = hn::ConcatUpperUpper(f8, b[i + 4], b[i]);
  }
}

// e^x = p * 2^n: x = n ln 2 + r with |r| <= ln(2)/2, and p = e^r.
template <typename D, typename V = hn::Vec<D>, typename N = hn::Vec<hn::RebindToSigned<D>>>
HWY_INLINE void SplitExp(D d, V x, V& p, N& n) {
  n = hn::NearestInt(hn::Mul(x, hn::Set(d, 1.44269504f)));
  // ln 2 in two parts, the first one short enough for exact products.
  const V f = hn::ConvertTo(d, n);
  V r = hn::NegMulAdd(f, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(f, hn::Set(d, -2.12194440e-4f), r);
  // Taylor's series: its next term is below 6e-9.
  p = hn::Set(d, 1.0f / 5040);
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
}

// 2^n for n in [-126, 127].
template <typename D, typename N = hn::Vec<hn::RebindToSigned<D>>>
HWY_INLINE hn::Vec<D> PowerOfTwo(D d, N n) {
  return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(n, hn::Set(hn::RebindToSigned<D>(), 127))));
}

// e^x to about one unit in the last place; 0 below -104, infinity above 88.8, NaN for NaN.
template <typename D, typename V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  V p;
  hn::Vec<hn::RebindToSigned<D>> n;
  // In this order NaN passes.
  SplitExp(d, hn::Max(hn::Set(d, -110.0f), hn::Min(hn::Set(d, 90.0f), x)), p, n);
  const auto half = hn::ShiftRight<1>(n);  // n reaches from -159 to 130: the power in two factors
  return hn::Mul(hn::Mul(p, PowerOfTwo(d, half)), PowerOfTwo(d, hn::Sub(n, half)));
}

// The same for x <= 0, and faster: never less than e^-87.
template <typename D, typename V = hn::Vec<D>>
HWY_INLINE V ExpOfNegative(D d, V x) {
  V p;
  hn::Vec<hn::RebindToSigned<D>> n;
  SplitExp(d, hn::Max(hn::Set(d, -87.0f), x), p, n);
  return hn::Mul(p, PowerOfTwo(d, n));
}

#endif
}  // namespace HWY_NAMESPACE
}  // namespace minicpmv
HWY_AFTER_NAMESPACE();

#endif
