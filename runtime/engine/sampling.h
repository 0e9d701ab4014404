#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace minicpmv {

// How tokens are chosen. The defaults cut nothing and change nothing.
struct SamplingSettings {
  double temperature = 1;         // (0, kMaxTemperature]; not looked at when greedy
  double top_p = 1;               // (0, 1]; 1 is off
  int top_k = 0;                  // [0, kMaxTopK]; 0 is off
  double repetition_penalty = 1;  // [1 / kMaxPenalty, kMaxPenalty]; 1 is off; greedy has it, too
  int64_t min_new_tokens = 0;     // stop ids cannot be chosen before
  int64_t max_new_tokens = 1;     // >= 1; the context may leave less
  uint64_t seed = 0;
  bool greedy = false;            // the best is taken and nothing is drawn
  std::vector<int32_t> stop_ids;  // any of them ends the sequence
};

inline constexpr double kMaxTemperature = 1000;
inline constexpr int kMaxTopK = 1 << 24;
inline constexpr double kMaxPenalty = 1000;

// INVALID_ARGUMENT names the field and what it may be. Ids are held against `vocabulary`.
absl::Status Validate(const SamplingSettings& settings, int64_t vocabulary);

}  // namespace minicpmv
