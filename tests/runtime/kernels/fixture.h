#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "runtime/device/cpu_device.h"
#include "runtime/kernels/kernels.h"
#include "tests/reference/reference_kernels.h"

namespace minicpmv {

// The judge, and the Kernels that the suite holds to it and to the numeric contract.
enum class Implementation { kReference, kCpuAvx2, kCpuAvx512 };

struct KernelsCase {
  Implementation implementation;
  DType dtype;  // of weights, caches or rows, as the test says

  std::string Name() const;
  friend std::ostream& operator<<(std::ostream& out, const KernelsCase& which) {
    return out << which.Name();
  }
};

// Whether this machine can run it.
bool IsPossible(Implementation implementation);
// Kernels on `device`. The choice of instructions holds for these kernels only.
std::unique_ptr<Kernels> MakeKernels(Implementation implementation, CpuDevice& device);

// A dense array on the host.
class Array {
 public:
  Array(DType dtype, Shape shape);
  // Values drawn evenly from [-1, 1), rounded to the dtype.
  static Array Random(DType dtype, Shape shape, uint64_t seed, float scale = 1);

  TensorView view() { return {data_.data(), dtype_, shape_}; }
  ConstTensorView view() const { return {data_.data(), dtype_, shape_}; }
  const Shape& shape() const { return shape_; }
  float Get(int64_t i) const;
  void Set(int64_t i, float value);
  float Largest() const;  // magnitude
  const std::vector<uint64_t>& bits() const { return data_; }

 private:
  DType dtype_;
  Shape shape_;
  std::vector<uint64_t> data_;  // words, so that any element is aligned
};

// The rows [first, first + count) of a float32 matrix.
Array Rows(const Array& x, int64_t first, int64_t count);

// `actual` is within `tolerance` of `expected`, relative to expected's largest magnitude.
void ExpectNear(const Array& actual, const Array& expected, double tolerance);
// Equal to the last bit; a NaN equals a NaN.
void ExpectSame(const Array& actual, const Array& expected, const std::string& what);

// Kernels with their device.
struct Bench {
  Bench(Implementation implementation, int threads)
      : device("cpu:0", threads), kernels(MakeKernels(implementation, device)) {}
  Kernels* operator->() { return kernels.get(); }
  void Wait() { EXPECT_TRUE(kernels->stream().Wait().ok()); }
  Weight Prepare(const Array& array);

  CpuDevice device;
  std::unique_ptr<Kernels> kernels;
};

// Skips what the machine cannot run.
class KernelsTest : public testing::TestWithParam<KernelsCase> {
 protected:
  void SetUp() override {
    if (!IsPossible(GetParam().implementation))
      GTEST_SKIP() << "this CPU lacks the instructions of " << GetParam().Name();
  }
  Implementation implementation() const { return GetParam().implementation; }
  DType dtype() const { return GetParam().dtype; }
};

// All but the judge, with the dtypes f32, bf16 and f16.
std::vector<KernelsCase> AllKernels();
// All but the judge, for verbs that see float32 only.
std::vector<KernelsCase> AllFloatKernels();
std::string CaseName(const testing::TestParamInfo<KernelsCase>& info);

}  // namespace minicpmv
