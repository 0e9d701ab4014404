#include "runtime/tensor/dtype.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "absl/status/status.h"

namespace minicpmv {
namespace {

TEST(DTypeTest, GoesByItsName) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kI32, DType::kU8}) {
    EXPECT_EQ(*DTypeFromName(NameOf(dtype)), dtype);
  }
  const absl::Status status = DTypeFromName("f64").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(status.message(), ::testing::HasSubstr("\"f64\""));
  EXPECT_EQ(SizeOf(DType::kF32), 4u);
  EXPECT_EQ(SizeOf(DType::kBF16), 2u);
  EXPECT_EQ(SizeOf(DType::kF16), 2u);
  EXPECT_EQ(SizeOf(DType::kI32), 4u);
  EXPECT_EQ(SizeOf(DType::kU8), 1u);
}

// A 16-bit format as its definition has it: sign, exponent, mantissa.
struct Format {
  const char* name;
  int mantissa_bits, bias;
  float (*to_float)(uint16_t);
  uint16_t (*from_float)(float);

  uint16_t infinity() const {
    return static_cast<uint16_t>(((1 << (15 - mantissa_bits)) - 1) << mantissa_bits);
  }

  // The value of finite bits, by the definition. Exact in a double.
  double Value(uint16_t bits) const {
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    const int exponent = (bits & 0x7fff) >> mantissa_bits;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                           : std::ldexp(mantissa + (1 << mantissa_bits),
                                                        exponent - bias - mantissa_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
  }

  // To the nearest of all finite values, a tie to the even one; the step after the largest one is
  // infinity. By bisection.
  uint16_t Nearest(float value) const {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::fabs(double{value});
    uint16_t below = 0, above = infinity();  // Value(infinity()) is the power of two where it
                                             // begins, as rounding needs
    while (above - below > 1) {
      const uint16_t middle = static_cast<uint16_t>((below + above) / 2);
      (Value(middle) <= magnitude ? below : above) = middle;
    }
    const double down = magnitude - Value(below), up = Value(above) - magnitude;
    const bool to_above = up < down || (up == down && below % 2 == 1);
    return static_cast<uint16_t>(sign | (to_above ? above : below));
  }
};

class HalfTest : public ::testing::TestWithParam<Format> {};

TEST_P(HalfTest, WidensEveryValueExactlyAndBack) {
  const Format& format = GetParam();
  for (uint32_t i = 0; i <= 0xffff; ++i) {
    const uint16_t bits = static_cast<uint16_t>(i);
    const float value = format.to_float(bits);
    const uint16_t magnitude = bits & 0x7fff;
    if (magnitude > format.infinity()) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(format.to_float(format.from_float(value)))) << bits;
      ASSERT_EQ(std::signbit(value), bits >= 0x8000) << bits;
      continue;
    }
    if (magnitude == format.infinity()) {
      ASSERT_EQ(value, bits & 0x8000 ? -INFINITY : INFINITY) << bits;
    } else {
      ASSERT_EQ(double{value}, format.Value(bits)) << bits;
      ASSERT_EQ(std::signbit(value), bits >= 0x8000) << bits;  // minus zero, too
    }
    ASSERT_EQ(format.from_float(value), bits);
  }
}

// Between every two neighbours: at the middle, and one float to each side of everything.
TEST_P(HalfTest, RoundsToNearestEvenAroundEveryValueAndEveryTie) {
  const Format& format = GetParam();
  for (uint32_t i = 0; i < format.infinity(); ++i) {
    const double here = format.Value(static_cast<uint16_t>(i));
    const double next = format.Value(static_cast<uint16_t>(i + 1));
    for (const double point :
         {here, (here + next) / 2, here + (next - here) / 4, here + (next - here) * 3 / 4}) {
      const float value = static_cast<float>(point);
      for (const float near :
           {value, std::nextafter(value, -INFINITY), std::nextafter(value, INFINITY)}) {
        if (near < 0 || !std::isfinite(near)) continue;
        ASSERT_EQ(format.from_float(near), format.Nearest(near)) << std::hexfloat << near;
        ASSERT_EQ(format.from_float(-near), format.Nearest(-near)) << std::hexfloat << -near;
      }
    }
  }
}

TEST_P(HalfTest, RoundsAnyFloatToTheNearest) {
  const Format& format = GetParam();
  std::mt19937 random(1);
  for (int i = 0; i < 500'000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(format.to_float(format.from_float(value))));
    } else if (std::isinf(value)) {
      ASSERT_EQ(format.to_float(format.from_float(value)), value);
    } else {
      ASSERT_EQ(format.from_float(value), format.Nearest(value)) << std::hexfloat << value;
    }
  }
}

TEST_P(HalfTest, KeepsNaNWhereItsLowBitsAreAllThatIsSet) {
  const Format& format = GetParam();
  for (const uint32_t bits : {0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffffffffu}) {
    EXPECT_TRUE(std::isnan(format.to_float(format.from_float(std::bit_cast<float>(bits))))) << bits;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, HalfTest,
                         ::testing::Values(Format{"BF16", 7, 127, BF16ToFloat, FloatToBF16},
                                           Format{"F16", 10, 15, F16ToFloat, FloatToF16}),
                         [](const auto& info) { return info.param.name; });

TEST(HalfLimitsTest, OverflowsToInfinityHalfAStepPastTheLargestValue) {
  EXPECT_EQ(FloatToF16(65504), 0x7bff);
  EXPECT_EQ(FloatToF16(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(FloatToF16(65520), 0x7c00);
  EXPECT_EQ(FloatToF16(-65520), 0xfc00);
  EXPECT_EQ(FloatToF16(0x1p-25f), 0);  // half of the least one ties to even
  EXPECT_EQ(FloatToF16(std::nextafter(0x1p-25f, 1.0f)), 1);
  EXPECT_EQ(FloatToBF16(std::numeric_limits<float>::max()), 0x7f80);
}

}  // namespace
}  // namespace minicpmv
