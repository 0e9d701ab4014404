#pragma once

#include <cstdint>
#include <vector>

namespace minicpmv {

// For each of `count` patches along one axis, its row (or column) in a square table of learned positions with `table_side`
// places a side. Not simply floor(table_side * i / count): the model was trained with what the original's float32 ranges
// (eight lanes of the CPU) make of it, so those are built here step by step.
std::vector<int32_t> PositionBuckets(int64_t count, int64_t table_side);

// [positions, width / 2] float32: sin(p * w_k) for all k, then cos(p * w_k), with w_k = 10000^(-k / (width / 4)), all in
// float32. The resampler's code of a patch is row `column` of this table followed by row `row`. `width` is a multiple of 4.
std::vector<float> AxisCodes(int64_t positions, int64_t width);

}  // namespace minicpmv
