#pragma once

#include "absl/status/status.h"
#include "runtime/base/json_file.h"

namespace minicpmv::gateway {

// Fields that clients know and that cannot be honoured here are not passed over in silence:
// UNIMPLEMENTED names the first that asks for something. A value that asks for nothing ("n": 1) is
// fine. INVALID_ARGUMENT: a value of another kind.
absl::Status CheckSupport(const JsonObject& body);
// The same of one message.
absl::Status CheckMessageSupport(const JsonObject& message);

}  // namespace minicpmv::gateway
