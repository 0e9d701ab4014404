#pragma once

#include <memory>

#include "runtime/device/cpu_device.h"
#include "runtime/kernels/kernels.h"

namespace minicpmv {

// Kernels on a CPU, with a stream of their own on `device`, which outlives them. The widest vectors that the machine has are
// chosen when the process runs. UNIMPLEMENTED on a CPU without fused multiply-add.
absl::StatusOr<std::unique_ptr<Kernels>> MakeCpuKernels(CpuDevice& device);

}  // namespace minicpmv
