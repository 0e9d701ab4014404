#include "runtime/model/scratch.h"

#include <utility>

#include "runtime/base/status_macros.h"

namespace minicpmv {

absl::StatusOr<TensorView> Scratch::Add(Device& device, Shape shape) {
  ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device.Allocate(static_cast<size_t>(shape.elements()) * sizeof(float)));
  buffers_.push_back(std::move(buffer));
  return TensorView(buffers_.back()->data(), DType::kF32, shape);
}

}  // namespace minicpmv
