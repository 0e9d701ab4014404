#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

// Gathers tensors and writes them as one safetensors file: traces, and data for tests. For one
// thread.
class SafetensorsWriter {
 public:
  // Copies the elements. A name goes in once and is valid UTF-8.
  void Add(std::string name, ConstTensorView tensor);

  // Every tensor lies at a multiple of its element's size. A file that was there before is replaced
  // as a whole, so who has it mapped keeps the old one. Errors name the path.
  absl::Status Write(const std::string& path) const;

 private:
  struct Tensor {
    DType dtype;
    Shape shape;
    std::vector<uint8_t> bytes;
  };
  std::map<std::string, Tensor> tensors_;
};

}  // namespace minicpmv
