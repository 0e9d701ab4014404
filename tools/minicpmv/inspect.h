#pragma once

#include <string>

#include "absl/status/status.h"

namespace minicpmv {

struct InspectOptions {
  std::string folder;
};

// Says what a model's folder holds: family, sizes, dtype, memory by part, tensors. Reads headers,
// no weight.
absl::Status Inspect(const InspectOptions& options);

}  // namespace minicpmv
