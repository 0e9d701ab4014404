#pragma once

#include <string>

#include "absl/functional/function_ref.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

// Sees activations as they pass: for comparing with the original. Called when the work is queued; the observer queues what it
// wants to do with `values` ([rows, width], valid at that point of the stream) on the same kernels.
using ActivationObserver = absl::FunctionRef<void(const std::string& name, ConstTensorView values)>;

}  // namespace minicpmv
