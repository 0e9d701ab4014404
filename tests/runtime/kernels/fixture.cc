#include "tests/runtime/kernels/fixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/kernels/cpu/cpu_kernels.h"
#include "runtime/kernels/cpu/targets.h"
// After targets.h.
#include "hwy/highway.h"

namespace minicpmv {
namespace {

int64_t TargetOf(Implementation implementation) {
  return implementation == Implementation::kCpuAvx512 ? HWY_AVX3 : HWY_AVX2;
}

}  // namespace

std::string KernelsCase::Name() const {
  const char* names[] = {"Reference", "CpuAvx2", "CpuAvx512"};
  return std::string(names[static_cast<int>(implementation)]) + "_" + std::string(NameOf(dtype));
}

bool IsPossible(Implementation implementation) {
  return implementation == Implementation::kReference ||
         (hwy::SupportedTargets() & TargetOf(implementation)) != 0;
}

std::unique_ptr<Kernels> MakeKernels(Implementation implementation, CpuDevice& device) {
  if (implementation == Implementation::kReference)
    return std::make_unique<ReferenceKernels>(device);
  hwy::SetSupportedTargetsForTest(TargetOf(implementation));
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  absl::StatusOr<std::unique_ptr<Kernels>> kernels = MakeCpuKernels(device);
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  CHECK(kernels.ok()) << kernels.status();
  return *std::move(kernels);
}

Array::Array(DType dtype, Shape shape) : dtype_(dtype), shape_(shape) {
  data_.resize((static_cast<size_t>(shape.elements()) * SizeOf(dtype) + 7) / 8);
}

Array Array::Random(DType dtype, Shape shape, uint64_t seed, float scale) {
  Array array(dtype, shape);
  std::mt19937_64 draw(seed);
  for (int64_t i = 0; i < shape.elements(); ++i) {
    array.Set(i, static_cast<float>(static_cast<int64_t>(draw() >> 40) - (1 << 23)) /
                     static_cast<float>(1 << 23) * scale);
  }
  return array;
}

float Array::Get(int64_t i) const {
  const ConstTensorView all = view();
  switch (dtype_) {
    case DType::kBF16:
      return BF16ToFloat(all.as<uint16_t>()[i]);
    case DType::kF16:
      return F16ToFloat(all.as<uint16_t>()[i]);
    default:
      return all.as<float>()[i];
  }
}

void Array::Set(int64_t i, float value) {
  const TensorView all = view();
  switch (dtype_) {
    case DType::kBF16:
      all.as<uint16_t>()[i] = FloatToBF16(value);
      return;
    case DType::kF16:
      all.as<uint16_t>()[i] = FloatToF16(value);
      return;
    default:
      all.as<float>()[i] = value;
  }
}

float Array::Largest() const {
  float largest = 0;
  for (int64_t i = 0; i < shape_.elements(); ++i) largest = std::max(largest, std::abs(Get(i)));
  return largest;
}

Array Rows(const Array& x, int64_t first, int64_t count) {
  const int64_t columns = x.shape()[1];
  Array part(DType::kF32, {count, columns});
  for (int64_t i = 0; i < count * columns; ++i) part.Set(i, x.Get(first * columns + i));
  return part;
}

void ExpectNear(const Array& actual, const Array& expected, double tolerance) {
  ASSERT_EQ(actual.shape(), expected.shape());
  const double allowed = tolerance * expected.Largest();
  for (int64_t i = 0; i < expected.shape().elements(); ++i) {
    ASSERT_NEAR(actual.Get(i), expected.Get(i), allowed)
        << "element " << i << " of " << expected.shape().ToString();
  }
}

void ExpectSame(const Array& actual, const Array& expected, const std::string& what) {
  ASSERT_EQ(actual.shape(), expected.shape()) << what;
  if (actual.bits() == expected.bits()) return;
  for (int64_t i = 0; i < expected.shape().elements(); ++i) {
    const float a = actual.Get(i), b = expected.Get(i);
    if (std::isnan(a) && std::isnan(b)) continue;
    ASSERT_TRUE(a == b && std::signbit(a) == std::signbit(b))
        << what << ": element " << i << " of " << expected.shape().ToString() << " is " << a
        << ", not " << b;
  }
}

Weight Bench::Prepare(const Array& array) {
  absl::StatusOr<Weight> weight = kernels->Prepare(array.view());
  CHECK(weight.ok()) << weight.status();
  return *std::move(weight);
}

std::vector<KernelsCase> AllKernels() {
  std::vector<KernelsCase> cases;
  for (Implementation implementation : {Implementation::kCpuAvx2, Implementation::kCpuAvx512}) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
      cases.push_back({implementation, dtype});
  }
  return cases;
}

std::vector<KernelsCase> AllFloatKernels() {
  return {{Implementation::kCpuAvx2, DType::kF32}, {Implementation::kCpuAvx512, DType::kF32}};
}

std::string CaseName(const testing::TestParamInfo<KernelsCase>& info) { return info.param.Name(); }

}  // namespace minicpmv
