#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// "data:...", whatever follows.
bool IsDataUri(absl::string_view uri);

// What "data:image/png;base64,..." holds. The media type is not believed. INVALID_ARGUMENT: not
// base64; its words follow the name of whatever held the URI.
absl::StatusOr<std::string> BytesOfDataUri(absl::string_view uri);

}  // namespace minicpmv
