#include "runtime/kernels/cpu/bounds.h"

#include <algorithm>
#include <atomic>

#include "absl/time/time.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/cpu/bounds.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace minicpmv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Returns how many floating-point operations it did. `sink` keeps the compiler from leaving them
// out.
double Multiply(std::atomic<float>& sink) {
  constexpr int kSums =
      12;  // enough to hide the latency of a multiply-add, few enough for 16 registers
  constexpr int64_t kSteps = 1'000'000;
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const float zero = sink.load();
  const V x = hn::Set(d, 1 + zero), y = hn::Set(d, zero);
  V sums[kSums];
#pragma GCC unroll 12
  for (int i = 0; i < kSums; ++i)
    sums[i] = hn::Set(d, static_cast<float>(i));  // equal ones would be folded into one
  for (int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 12
    for (V& sum : sums) sum = hn::MulAdd(x, y, sum);
  }
  V all = y;
#pragma GCC unroll 12
  for (const V& sum : sums) all = hn::Add(all, sum);
  sink.store(hn::GetLane(all));
  return 2.0 * kSums * kSteps * static_cast<double>(hn::Lanes(d));
}

// Bytes in [0, size) of `data`, size a multiple of 256.
void Read(const uint8_t* data, int64_t size, std::atomic<uint8_t>& sink) {
  const hn::ScalableTag<uint8_t> d;
  constexpr int64_t kLine = 64;
  auto a = hn::Zero(d), b = a, e = a, f = a;
  for (int64_t i = 0; i < size; i += 4 * kLine) {
    for (int64_t j = 0; j < kLine; j += static_cast<int64_t>(hn::Lanes(d))) {
      a = hn::Or(a, hn::LoadU(d, data + i + j));
      b = hn::Or(b, hn::LoadU(d, data + i + j + kLine));
      e = hn::Or(e, hn::LoadU(d, data + i + j + 2 * kLine));
      f = hn::Or(f, hn::LoadU(d, data + i + j + 3 * kLine));
    }
  }
  sink.store(hn::GetLane(hn::Or(hn::Or(a, b), hn::Or(e, f))));
}

}  // namespace HWY_NAMESPACE
}  // namespace minicpmv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace minicpmv {

HWY_EXPORT(Multiply);
HWY_EXPORT(Read);

double MeasureFmaFlops(ThreadPool& pool) {
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    std::atomic<float> sink = 0;
    std::atomic<int> arrived = 0;
    double flops = 0;
    absl::Time start;
    pool.Run(pool.threads(), [&](int64_t) {
      // All at once or not at all: a thread that finished two parts would hide that another one
      // slept.
      const bool is_last = ++arrived == pool.threads();
      if (is_last) start = Clock::Monotonic().Now();
      while (arrived < pool.threads()) {
      }
      const double mine = HWY_DYNAMIC_DISPATCH(Multiply)(sink);
      if (is_last) flops = mine * pool.threads();
    });
    best = std::max(best, flops / absl::ToDoubleSeconds(Clock::Monotonic().Now() - start));
  }
  return best;
}

double MeasureReadBytes(ThreadPool& pool, absl::Span<const uint8_t> bytes) {
  constexpr int64_t kChunk = int64_t{1} << 20, kStep = 256;
  const int64_t size = static_cast<int64_t>(bytes.size()) / kStep * kStep;
  const int64_t chunks = (size + kChunk - 1) / kChunk;
  CHECK_GT(chunks, 0);
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const absl::Time start = Clock::Monotonic().Now();
    pool.Run(chunks, [&](int64_t i) {
      std::atomic<uint8_t> sink;
      HWY_DYNAMIC_DISPATCH(Read)
      (bytes.data() + i * kChunk, std::min(kChunk, size - i * kChunk), sink);
    });
    best = std::max(
        best, static_cast<double>(size) / absl::ToDoubleSeconds(Clock::Monotonic().Now() - start));
  }
  return best;
}

}  // namespace minicpmv
#endif
