#include "runtime/model/position_codes.h"

#include <algorithm>
#include <cmath>

namespace minicpmv {
namespace {

// What the original's vectorised range gives: blocks of eight start from a rounded base, the rest is computed singly.
std::vector<float> FloatRange(double start, double step, int64_t count) {
  constexpr int64_t kLanes = 8;
  const int64_t blocked = count / (2 * kLanes) * (2 * kLanes);
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    if (i < blocked) {
      const int64_t block = i / kLanes * kLanes;
      const double base = static_cast<float>(start + step * static_cast<double>(block));
      values[i] = static_cast<float>(base + static_cast<double>(i - block) * step);
    } else {
      values[i] = static_cast<float>(start + step * static_cast<double>(i));
    }
  }
  return values;
}

}  // namespace

std::vector<int32_t> PositionBuckets(int64_t count, int64_t table_side) {
  const double place = 1.0 / static_cast<double>(table_side);
  const std::vector<float> boundaries = FloatRange(place, place, table_side - 1);
  const std::vector<float> fractions = FloatRange(0, 1.0f / static_cast<float>(count), count);
  std::vector<int32_t> buckets;
  buckets.reserve(fractions.size());
  for (const float fraction : fractions) {
    const auto above = std::upper_bound(boundaries.begin(), boundaries.end(), fraction);
    buckets.push_back(static_cast<int32_t>(above - boundaries.begin()));
  }
  return buckets;
}

std::vector<float> AxisCodes(int64_t positions, int64_t width) {
  const int64_t quarter = width / 4;
  std::vector<float> codes(static_cast<size_t>(positions * 2 * quarter));
  for (int64_t k = 0; k < quarter; ++k) {
    const float exponent = static_cast<float>(k) / static_cast<float>(quarter);
    const float frequency = 1.0f / std::pow(10000.0f, exponent);
    for (int64_t p = 0; p < positions; ++p) {
      const float angle = static_cast<float>(p) * frequency;
      codes[p * 2 * quarter + k] = std::sin(angle);
      codes[p * 2 * quarter + quarter + k] = std::cos(angle);
    }
  }
  return codes;
}

}  // namespace minicpmv
