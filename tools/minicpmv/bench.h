#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "runtime/engine/local_model.h"

namespace minicpmv {

struct BenchOptions {
  LocalModelOptions model;
  int64_t prompt = 512;  // tokens of a prompt
  int64_t tokens = 32;   // decoded after it, by each sequence
  std::vector<int64_t> batch = {1, 8};
  int slices = 1;  // sub-images of the largest size
  bool json = false;
};

// Measures decode, prefill and vision beside what the machine could do at best, which is measured
// in the same run.
absl::Status Bench(const BenchOptions& options);

}  // namespace minicpmv
