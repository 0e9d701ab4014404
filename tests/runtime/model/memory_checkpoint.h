#pragma once

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/checkpoint/checkpoint.h"

namespace minicpmv {

// A checkpoint of float32 tensors made on the spot.
class MemoryCheckpoint final : public Checkpoint {
 public:
  void Add(std::string name, Shape shape, std::vector<float> values) {
    CHECK_EQ(shape.elements(), static_cast<int64_t>(values.size()));
    tensors_[std::move(name)] = {shape, std::move(values)};
  }

  // float32(offset + scale * sin(0.7 * (i + 1) + seed)) at flat index i: how the spec's tiny models are filled.
  static std::vector<float> Wave(int64_t count, double seed, double scale, double offset) {
    std::vector<float> values(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(offset + scale * std::sin(0.7 * static_cast<double>(i + 1) + seed));
    }
    return values;
  }

  void Remove(const std::string& name) { tensors_.erase(name); }

  absl::StatusOr<ConstTensorView> Find(absl::string_view name) const override {
    const auto it = tensors_.find(std::string(name));
    if (it == tensors_.end()) return absl::NotFoundError(absl::StrCat("no tensor ", name, " in ", path_));
    return ConstTensorView(it->second.values.data(), DType::kF32, it->second.shape);
  }
  std::vector<absl::string_view> names() const override {
    std::vector<absl::string_view> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }
  const std::string& path() const override { return path_; }
  uint64_t bytes() const override {
    uint64_t sum = 0;
    for (const auto& [name, tensor] : tensors_) sum += tensor.values.size() * sizeof(float);
    return sum;
  }

 private:
  struct Tensor {
    Shape shape;
    std::vector<float> values;
  };
  std::map<std::string, Tensor> tensors_;
  std::string path_ = "memory";
};

}  // namespace minicpmv
