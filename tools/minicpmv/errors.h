#pragma once

#include <string>

#include "absl/status/status.h"

namespace minicpmv {

// What the process ends with: 0 for OK; 2 for what the caller can mend (flags, files, input); 1 for
// the rest.
int ExitStatusOf(const absl::Status& status);

// The words of an error as the one line that goes to standard error: control characters are spelled
// \xNN, as names of files and words of libraries may hold any.
std::string ErrorLine(const absl::Status& status);

}  // namespace minicpmv
