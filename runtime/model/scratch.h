#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

// Room for the activations between two verbs. Views live as long as this object.
class Scratch {
 public:
  // Adds a float32 tensor. RESOURCE_EXHAUSTED: the device has no such room.
  absl::StatusOr<TensorView> Add(Device& device, Shape shape);

 private:
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

}  // namespace minicpmv
