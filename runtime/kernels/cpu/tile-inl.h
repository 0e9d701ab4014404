// The inner loop of products and attention: a tile of sums that stays in registers.

#if defined(MINICPMV_RUNTIME_KERNELS_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MINICPMV_RUNTIME_KERNELS_CPU_TILE_INL_H_
#undef MINICPMV_RUNTIME_KERNELS_CPU_TILE_INL_H_
#else
#define MINICPMV_RUNTIME_KERNELS_CPU_TILE_INL_H_
#endif

#include <utility>

#include "runtime/kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace minicpmv {
namespace HWY_NAMESPACE {
#if HWY_MAX_BYTES >= 32

// The widest vectors of the CPU: every lane is a sum of its own.
using FW = hn::ScalableTag<float>;
using VW = hn::Vec<FW>;
inline constexpr FW fw;
inline constexpr int kWidth = static_cast<int>(HWY_MAX_BYTES / sizeof(float));  // lanes of VW

// Rows of a full tile of two vectors: as many sums as the registers hold beside two vectors and a
// broadcast (16 registers with AVX2, 32 with AVX-512).
inline constexpr int kTileRows = HWY_MAX_BYTES == 64 ? 12 : 6;

// c[r][v] += a[k * a_step + r * kRowStep] * b[k * b_step + v * kWidth + lane], k rising to `steps`.
template <int kRows, int kVectors, int kRowStep>
HWY_INLINE void Accumulate(const float* HWY_RESTRICT a, int64_t a_step, const float* HWY_RESTRICT b,
                           int64_t b_step, int64_t steps, VW (&c)[kRows][kVectors]) {
  for (int64_t k = 0; k < steps; ++k, a += a_step, b += b_step) {
    VW w[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) w[v] = hn::LoadU(fw, b + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const VW x = hn::Set(fw, a[r * kRowStep]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) c[r][v] = hn::MulAdd(x, w[v], c[r][v]);
    }
  }
}

// Calls work(integral_constant<int, n>) for a number n in [1, kMax] that is known only when
// running.
template <int kMax, typename Work>
HWY_INLINE void WithCount(int n, const Work& work) {
  if constexpr (kMax > 1) {
    if (n < kMax) return WithCount<kMax - 1>(n, work);
  }
  work(std::integral_constant<int, kMax>());
}

#endif
}  // namespace HWY_NAMESPACE
}  // namespace minicpmv
HWY_AFTER_NAMESPACE();

#endif
