#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// The same status with `what` (a flag, a file, a field) and a colon before its words.
absl::Status Blame(absl::string_view what, const absl::Status& status);

}  // namespace minicpmv
