#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// What one element is. The 16-bit floats are carried as uint16_t bits.
enum class DType : uint8_t { kF32, kBF16, kF16, kI32, kU8 };

size_t SizeOf(DType dtype);             // bytes an element
absl::string_view NameOf(DType dtype);  // "f32", "bf16", "f16", "i32", "u8"
// The inverse of NameOf. INVALID_ARGUMENT lists the names.
absl::StatusOr<DType> DTypeFromName(absl::string_view name);

// IEEE conversions of single values, rounding to nearest even; NaN stays NaN. Exact the other way.
float BF16ToFloat(uint16_t bits);
uint16_t FloatToBF16(float value);
float F16ToFloat(uint16_t bits);
uint16_t FloatToF16(float value);

}  // namespace minicpmv
