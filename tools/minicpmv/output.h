#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// Writes all of it to standard output, at once: nothing waits in a buffer. UNAVAILABLE: whoever
// read it has gone, or the disk is full.
absl::Status WriteOutput(absl::string_view text);
// The same to standard error; what cannot be written there is lost.
void WriteNotice(absl::string_view text);

}  // namespace minicpmv
