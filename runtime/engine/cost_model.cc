#include "runtime/engine/cost_model.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace minicpmv {
namespace {

constexpr double kFade = 0.98;
// Bring the terms of common steps to about one, so that the ridge weighs them alike.
constexpr double kRows = 64;
constexpr double kAttended = 64 * 1024;
// Decides between explanations that fit equally well; far below what a measurement weighs.
constexpr double kRidge = 1e-9;

}  // namespace

CostModel::Terms CostModel::TermsOf(const StepSize& size) {
  return {1, static_cast<double>(size.rows) / kRows,
          static_cast<double>(size.attended) / kAttended};
}

void CostModel::Measure(const StepSize& size, absl::Duration duration) {
  const double seconds = absl::ToDoubleSeconds(duration);
  if (size.rows < 1 || !(seconds > 0) || !std::isfinite(seconds)) return;
  const int kind = std::min<int>(std::bit_width(static_cast<uint64_t>(size.rows)), kKinds) - 1;
  Sums& sums = kinds_[kind];
  const Terms terms = TermsOf(size);
  const double weight = 1 / (seconds * seconds);
  for (int i = 0; i < kTerms; ++i) {
    for (int j = 0; j < kTerms; ++j) {
      sums.products[i][j] = kFade * sums.products[i][j] + weight * terms[i] * terms[j];
    }
    sums.targets[i] = kFade * sums.targets[i] + weight * terms[i] * seconds;
  }
  Solve();
}

// The best non-negative solution has some set of terms at zero and solves the equations of the
// others: with three terms all seven sets can be tried.
void CostModel::Solve() {
  Sums all;
  for (const Sums& sums : kinds_) {
    for (int i = 0; i < kTerms; ++i) {
      for (int j = 0; j < kTerms; ++j) all.products[i][j] += sums.products[i][j];
      all.targets[i] += sums.targets[i];
    }
  }
  for (int i = 0; i < kTerms; ++i) all.products[i][i] *= 1 + kRidge;

  double best_error = 0;  // of all terms at zero; the constant part is left out
  Terms best = {};
  for (int set = 1; set < 1 << kTerms; ++set) {
    // Gaussian elimination of the chosen rows and columns; the matrix is positive definite.
    auto matrix = all.products;
    Terms solution = all.targets;
    bool solvable = true;
    for (int i = 0; i < kTerms; ++i) {
      if (set >> i & 1) continue;
      for (int j = 0; j < kTerms; ++j) matrix[i][j] = matrix[j][i] = 0;
      matrix[i][i] = 1;
      solution[i] = 0;
    }
    for (int i = 0; i < kTerms; ++i) {
      if (!(matrix[i][i] > 0)) solvable = false;
      if (!solvable) break;
      for (int j = i + 1; j < kTerms; ++j) {
        const double factor = matrix[j][i] / matrix[i][i];
        for (int k = i; k < kTerms; ++k) matrix[j][k] -= factor * matrix[i][k];
        solution[j] -= factor * solution[i];
      }
    }
    if (!solvable) continue;
    for (int i = kTerms - 1; i >= 0; --i) {
      for (int j = i + 1; j < kTerms; ++j) solution[i] -= matrix[i][j] * solution[j];
      solution[i] /= matrix[i][i];
    }
    if (!std::all_of(solution.begin(), solution.end(), [](double s) { return s >= 0; })) continue;
    double error = 0;
    for (int i = 0; i < kTerms; ++i) {
      error -= 2 * solution[i] * all.targets[i];
      for (int j = 0; j < kTerms; ++j) error += solution[i] * all.products[i][j] * solution[j];
    }
    if (error < best_error) {
      best_error = error;
      best = solution;
    }
  }
  seconds_ = best;
}

absl::Duration CostModel::Predict(const StepSize& size) const {
  const Terms terms = TermsOf(size);
  double seconds = 0;
  for (int i = 0; i < kTerms; ++i) seconds += seconds_[i] * terms[i];
  return absl::Seconds(seconds);
}

}  // namespace minicpmv
