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
// of the relative error, in which a measurement counts 2 % less with each later one of like size
// (so a long time of decoding does not make it forget what prompts cost). No part is ever negative.
// The same measurements give the same predictions. One thread at a time.
class CostModel {
 public:
  void Measure(const StepSize& size, absl::Duration duration);
  // Never negative, and never less for more. Zero before anything was measured.
  absl::Duration Predict(const StepSize& size) const;

 private:
  static constexpr int kTerms = 3;   // fixed, rows, attended
  static constexpr int kKinds = 24;  // of size: powers of two of rows
  using Terms = std::array<double, kTerms>;
  // What least squares needs to know of the measurements of one kind.
  struct Sums {
    std::array<Terms, kTerms> products = {};  // of term with term
    Terms targets = {};                       // of term with seconds
  };
  static Terms TermsOf(const StepSize& size);
  void Solve();

  std::array<Sums, kKinds> kinds_ = {};
  Terms seconds_ = {};  // a term costs
};

}  // namespace minicpmv
