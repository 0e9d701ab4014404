#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/kernels/kernels.h"
#include "runtime/model/activation_observer.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

// Keeps what its observer is shown. The copies are float32, on the host, and whole once the kernels' stream has been waited
// for. `kernels` are those that queue the activations, and outlive this object.
class ActivationCopies {
 public:
  explicit ActivationCopies(Kernels& kernels)
      : keep_([this, &kernels](const std::string& name, ConstTensorView values) {
          auto& [shape, copy] = copies_[name];
          shape = values.shape;
          copy.resize(static_cast<size_t>(shape.elements()));
          kernels.Cast(values, TensorView(copy.data(), DType::kF32, shape));
        }) {}
  ActivationCopies(const ActivationCopies&) = delete;
  ActivationCopies& operator=(const ActivationCopies&) = delete;

  // It, and the views of all(), live as long as this object.
  ActivationObserver observer() const { return keep_; }

  // By name.
  std::map<std::string, ConstTensorView> all() const {
    std::map<std::string, ConstTensorView> views;
    for (const auto& [name, copy] : copies_) {
      views[name] = ConstTensorView(copy.second.data(), DType::kF32, copy.first);
    }
    return views;
  }

 private:
  std::map<std::string, std::pair<Shape, std::vector<float>>> copies_;
  const std::function<void(const std::string&, ConstTensorView)> keep_;
};

}  // namespace minicpmv
