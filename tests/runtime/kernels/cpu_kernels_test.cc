#include "runtime/kernels/cpu/cpu_kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/kernels/cpu/bounds.h"
#include "runtime/kernels/cpu/targets.h"
// After targets.h.
#include "hwy/highway.h"
#include "tests/runtime/kernels/fixture.h"

namespace minicpmv {
namespace {

TEST(CpuKernelsTest, RefuseACpuWithoutFusedMultiplyAdd) {
  CpuDevice device("cpu:0", 1);
  hwy::SetSupportedTargetsForTest(HWY_STATIC_TARGET);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  const absl::Status status = MakeCpuKernels(device).status();
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), testing::HasSubstr("FMA"));
}

TEST(CpuKernelsTest, NameOneNumericsClassForAllInstructions) {
  CpuDevice device("cpu:0", 1);
  for (Implementation implementation : {Implementation::kCpuAvx2, Implementation::kCpuAvx512}) {
    if (!IsPossible(implementation)) continue;
    EXPECT_EQ(MakeKernels(implementation, device)->numerics_class(), "cpu-fma-1");
  }
}

TEST(CpuKernelsTest, QueueInOrderFromAnyThreadThatTakesItsTurn) {
  Bench bench(Implementation::kCpuAvx2, 2);
  Array x(DType::kF32, {1, 8}), one(DType::kF32, {1, 8});
  for (int64_t i = 0; i < 8; ++i) one.Set(i, 1);
  for (int i = 0; i < 1000; ++i) bench->Add(x.view(), one.view());
  bench.Wait();
  EXPECT_EQ(x.Get(7), 1000);
}

TEST(BoundsTest, ArePositive) {
  ThreadPool pool(2);
  const std::vector<uint8_t> bytes(size_t{8} << 20);
  EXPECT_GT(MeasureReadBytes(pool, bytes), 1e8);
  EXPECT_GT(MeasureFmaFlops(pool), 1e8);
}

}  // namespace
}  // namespace minicpmv
