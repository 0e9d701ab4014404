#pragma once

#include <array>
#include <cstdint>

#include "absl/time/time.h"

namespace minicpmv {

// What decides how long a step takes.
struct StepSize {
  int64_t rows = 0;
  int64_t attended = 0;  // sum over the rows of the positions that each one sees

  // Adds rows of one sequence at positions [first, first + count).
  void Add(int64_t first, int64_t count) {
    rows += count;
    attended += count * first + count * (count + 1) / 2;
  }
};

// Learns from measured steps that one takes fixed + a * rows + b * attended seconds: least squares
// over the past, in which a step counts 2 % less with each step after it. No part is ever negative.
// The same measurements give the same predictions. One thread at a time.
class CostModel {
 public:
  void Measure(const StepSize& size, absl::Duration duration);
  // Never negative, and never less for more. Zero before anything was measured.
  absl::Duration Predict(const StepSize& size) const;

 private:
  static constexpr int kTerms = 3;
  void Solve();

  std::array<std::array<double, kTerms>, kTerms> products_ = {};  // sum of term x term
  std::array<double, kTerms> targets_ = {};                       // sum of term x seconds
  std::array<double, kTerms> seconds_ = {};                       // of fixed, rows, attended
};

}  // namespace minicpmv
