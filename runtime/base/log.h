#pragma once

#include "absl/strings/string_view.h"

namespace minicpmv {

// One line each on standard error, with the time and a letter for the level. Thread-safe; lines of
// two threads never mix. Text from outside belongs in Quoted() first.
void LogInfo(absl::string_view line);
void LogWarning(absl::string_view line);
void LogError(absl::string_view line);

}  // namespace minicpmv
