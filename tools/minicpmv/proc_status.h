#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace minicpmv {

// Memory of this process that no file stands behind, in bytes, as /proc/self/status has it now.
// UNAVAILABLE: no such line.
absl::StatusOr<int64_t> RssAnonBytes();

}  // namespace minicpmv
