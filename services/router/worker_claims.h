#pragma once

#include "absl/status/status.h"
#include "minicpmv/control/v1/fleet.pb.h"

namespace minicpmv::router {

// What workers say of themselves comes from outside. INVALID_ARGUMENT names the field that cannot
// be.
absl::Status CheckHello(const control::v1::WorkerHello& hello);
absl::Status CheckLoad(const control::v1::WorkerLoad& load, const control::v1::WorkerHello& hello);

}  // namespace minicpmv::router
