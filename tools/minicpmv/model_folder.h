#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace minicpmv {

// The folder that a user named; if none, the nano model that lies beside the executable: in nano/
// or, once installed, in
// ../share/minicpmv/nano/. NOT_FOUND: no such folder.
absl::StatusOr<std::string> ResolveModelFolder(const std::string& named);

}  // namespace minicpmv
