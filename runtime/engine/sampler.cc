#include "runtime/engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/philox.h"

namespace minicpmv {
namespace {

using Candidate = Sampler::Candidate;
using Workspace = Sampler::Workspace;

constexpr double kNoChance = -std::numeric_limits<double>::infinity();

// NaN and +infinity have no place in a softmax; -infinity is an id without a chance.
absl::Status CheckLogits(absl::Span<const float> logits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  bool good = true;
  for (float logit : logits) good &= logit < kInfinity;
  if (good) return absl::OkStatus();
  const auto bad =
      std::find_if_not(logits.begin(), logits.end(), [](float logit) { return logit < kInfinity; });
  return absl::InternalError(absl::StrCat("the logit of id ", bad - logits.begin(), " is ", *bad,
                                          ", not a number to compare"));
}

// Drops what is below the `count`-th best score and returns that score. Of fewer all stay.
double Prune(int64_t count, Workspace& workspace) {
  std::vector<Candidate>& candidates = workspace.candidates;
  if (static_cast<int64_t>(candidates.size()) <= count) return kNoChance;
  workspace.scores.clear();
  for (const Candidate& candidate : candidates) workspace.scores.push_back(candidate.score);
  const auto nth = workspace.scores.begin() + (count - 1);
  std::nth_element(workspace.scores.begin(), nth, workspace.scores.end(), std::greater<>());
  const double threshold = *nth;
  std::erase_if(candidates, [=](const Candidate& c) { return c.score < threshold; });
  return threshold;
}

// About e^-|x|, to 2e-7 of it; beyond 80 as at 80. Without any branch, floats compared included, so
// that a loop of it becomes vector code.
float RoughExp(float x) {
  constexpr int32_t kNoSign = 0x7FFFFFFF, kLeast = std::bit_cast<int32_t>(80.0f);
  x = -std::bit_cast<float>(std::min(std::bit_cast<int32_t>(x) & kNoSign, kLeast));
  const int32_t n = static_cast<int32_t>(x * 1.44269504f - 0.5f);  // the nearest: x is not positive
  const float r = x - static_cast<float>(n) * 0.693359375f + static_cast<float>(n) * 2.12194440e-4f;
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1;
  p = p * r + 1;
  return p * std::bit_cast<float>((n + 127) << 23);
}

constexpr size_t kRun = 1024;

// Of a run of that many logits: a count that the compiler knows, for its vectors.
double RoughRunSum(const float* logits, const uint8_t* marked, float best, float scale) {
  constexpr size_t kLanes = 8;
  float weights[kRun];
  for (size_t i = 0; i < kRun; ++i) {
    weights[i] = RoughExp((logits[i] - best) * scale) * static_cast<float>(1 - marked[i]);
  }
  float lanes[kLanes] = {};
  for (size_t i = 0; i < kRun; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += weights[i + lane];
  }
  return std::accumulate(lanes, lanes + kLanes, 0.0);
}

// About the sum of exp((logit - best) * scale) over all ids that are not marked.
double RoughSum(absl::Span<const float> logits, const std::vector<uint8_t>& marked, double best,
                double scale) {
  const float top = static_cast<float>(best), factor = static_cast<float>(scale);
  const size_t whole = logits.size() / kRun * kRun;
  double sum = 0;
  for (size_t i = 0; i < whole; i += kRun) {
    sum += RoughRunSum(logits.data() + i, marked.data() + i, top, factor);
  }
  float rest[kRun];
  uint8_t is_out[kRun];
  std::fill(std::copy(logits.begin() + whole, logits.end(), rest), rest + kRun, top);
  std::fill(std::copy(marked.begin() + whole, marked.end(), is_out), is_out + kRun, uint8_t{1});
  return sum + RoughRunSum(rest, is_out, top, factor);
}

bool BetterFirst(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

}  // namespace

Sampler::Sampler(const SamplingSettings& settings, absl::Span<const int32_t> generated,
                 uint32_t choice)
    : settings_(settings), choice_(choice) {
  for (int32_t token : generated) Append(token);
}

void Sampler::Append(int32_t token) {
  ++generated_;
  // Without a penalty nobody asks which ids they were.
  if (settings_.repetition_penalty != 1 && is_generated_.insert(token).second) {
    distinct_.push_back(token);
  }
}

bool Sampler::IsStop(int32_t token) const {
  return std::find(settings_.stop_ids.begin(), settings_.stop_ids.end(), token) !=
         settings_.stop_ids.end();
}

// Leaves the `count` best candidates, and those that equal the last of them. A candidate enters
// only if it may still be among the best, so most ids cost one comparison.
void Sampler::KeepBest(absl::Span<const float> logits, absl::Span<const Candidate> changed,
                       int64_t count, Workspace& workspace) const {
  std::vector<Candidate>& candidates = workspace.candidates;
  candidates.clear();
  for (const Candidate& candidate : changed) {
    if (candidate.score > kNoChance) candidates.push_back(candidate);
  }
  // Pruned when full; where ties keep it full it grows, so that pruning stays rare.
  size_t room = std::max<size_t>(1024, 4 * static_cast<size_t>(count));
  float threshold = std::numeric_limits<float>::lowest();
  const int32_t vocabulary = static_cast<int32_t>(logits.size());
  for (int32_t id = 0; id < vocabulary; ++id) {
    if (logits[id] < threshold || workspace.marked[id]) continue;
    candidates.push_back({id, logits[id], 0});
    if (candidates.size() < room) continue;
    // A penalised score need not be a float: rounding down keeps the threshold on the safe side.
    const double pruned = Prune(count, workspace);
    const float rounded = static_cast<float>(pruned);
    threshold =
        std::max(threshold, rounded > pruned ? std::nextafter(rounded, -HUGE_VALF) : rounded);
    room = std::max(room, 2 * candidates.size());
  }
  Prune(count, workspace);
}

// Of the weights of all ids.
double Sampler::Sum(absl::Span<const float> logits, absl::Span<const Candidate> changed,
                    double best, const Workspace& workspace) const {
  const double scale = 1 / settings_.temperature;
  // Weights under exp(-60) are, all together, less than the last bit of the sum, whose largest term
  // is 1.
  const double floor = best - 60 * settings_.temperature;
  double sum = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] < floor || workspace.marked[id]) continue;
    sum += std::exp((logits[id] - best) * scale);
  }
  for (const Candidate& c : changed) sum += std::exp((c.score - best) * scale);
  return sum;
}

// Top-p over all ids: only the best few are looked at one by one.
void Sampler::KeepNucleus(absl::Span<const float> logits, absl::Span<const Candidate> changed,
                          double best, Workspace& workspace) const {
  const double scale = 1 / settings_.temperature;
  // The sum over all ids is only compared with: a rough one, and how far off it may be, decides all
  // but the closest cases, which then cost an exponential for each id.
  double rough = RoughSum(logits, workspace.marked, best, scale);
  for (const Candidate& c : changed) rough += std::exp((c.score - best) * scale);
  // Logits and their differences are rounded to 2^-24 of themselves before they are scaled; those
  // of weights that count are within 60 temperatures of the best.
  const double error = 1e-4 + 4 * std::exp2(-24) * std::abs(best) * scale;
  std::optional<double> exact;
  const auto is_reached = [&](double before) {
    if (error < 0.1) {
      if (before >= settings_.top_p * rough * (1 + error)) return true;
      if (before < settings_.top_p * rough * (1 - error)) return false;
    }
    if (!exact.has_value()) exact = Sum(logits, changed, best, workspace);
    return before >= settings_.top_p * *exact;
  };

  const int64_t vocabulary = static_cast<int64_t>(logits.size());
  for (int64_t count = 64;; count = std::min(8 * count, vocabulary)) {
    KeepBest(logits, changed, count, workspace);
    std::sort(workspace.candidates.begin(), workspace.candidates.end(), BetterFirst);
    double before = 0;
    size_t kept = 0;
    for (Candidate& candidate : workspace.candidates) {
      if (kept > 0 && is_reached(before)) break;
      candidate.weight = std::exp((candidate.score - best) * scale);
      before += candidate.weight;
      ++kept;
    }
    if (is_reached(before) || count >= vocabulary) {
      workspace.candidates.resize(kept);
      return;
    }
  }
}

absl::Status Sampler::Narrow(absl::Span<const float> logits, Workspace& workspace) const {
  RETURN_IF_ERROR(CheckLogits(logits));
  const int64_t vocabulary = static_cast<int64_t>(logits.size());
  workspace.marked.resize(logits.size());

  // Ids whose score is not their logit, each once.
  std::vector<Candidate> changed;
  const auto change = [&](int32_t id, double score) {
    CHECK(id >= 0 && id < vocabulary) << id << " of " << vocabulary;
    if (workspace.marked[id]) return;
    workspace.marked[id] = 1;
    changed.push_back({id, score, 0});
  };
  if (generated_ < settings_.min_new_tokens) {
    for (int32_t id : settings_.stop_ids) change(id, kNoChance);
  }
  const double penalty = settings_.repetition_penalty;
  for (int32_t id : distinct_) {
    const double logit = logits[id];
    change(id, logit < 0 ? logit * penalty : logit / penalty);
  }

  const bool cuts_k = settings_.top_k > 0 && settings_.top_k < vocabulary;
  std::vector<Candidate>& candidates = workspace.candidates;
  const auto best_of = [&] {
    double best = kNoChance;
    for (const Candidate& candidate : candidates) best = std::max(best, candidate.score);
    return best;
  };
  if (settings_.greedy) {
    KeepBest(logits, changed, 1, workspace);
    if (!candidates.empty()) {
      const auto first = std::min_element(candidates.begin(), candidates.end(), BetterFirst);
      candidates = {{first->id, first->score, 1}};
    }
  } else if (!cuts_k && settings_.top_p < 1) {
    KeepBest(logits, changed, 1, workspace);
    if (!candidates.empty()) KeepNucleus(logits, changed, best_of(), workspace);
  } else {
    KeepBest(logits, changed, cuts_k ? settings_.top_k : vocabulary, workspace);
    const double best = best_of();
    double sum = 0;
    for (Candidate& candidate : candidates) {
      candidate.weight = std::exp((candidate.score - best) / settings_.temperature);
      sum += candidate.weight;
    }
    if (settings_.top_p < 1) {
      std::sort(candidates.begin(), candidates.end(), BetterFirst);
      double before = 0;
      size_t kept = 0;
      while (kept < candidates.size() && (kept == 0 || before < settings_.top_p * sum)) {
        before += candidates[kept++].weight;
      }
      candidates.resize(kept);
    }
  }
  for (const Candidate& candidate : changed) workspace.marked[candidate.id] = 0;
  if (candidates.empty()) return absl::InternalError("no id has a chance to be chosen");
  return absl::OkStatus();
}

absl::StatusOr<int32_t> Sampler::Choose(absl::Span<const float> logits, int64_t position,
                                        Workspace& workspace) const {
  RETURN_IF_ERROR(Narrow(logits, workspace));
  std::vector<Candidate>& candidates = workspace.candidates;
  if (candidates.size() == 1) return candidates[0].id;
  const auto by_id = [](const Candidate& a, const Candidate& b) { return a.id < b.id; };
  if (!std::is_sorted(candidates.begin(), candidates.end(), by_id)) {
    std::sort(candidates.begin(), candidates.end(), by_id);
  }
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += candidate.weight;
  const double coin = sum * TossCoin(settings_.seed, choice_, position, CoinPurpose::kToken);
  double passed = 0;
  for (const Candidate& candidate : candidates) {
    passed += candidate.weight;
    if (passed > coin) return candidate.id;
  }
  // The product was rounded up to the sum: the last id that has a chance.
  for (auto last = candidates.rbegin(); last != candidates.rend(); ++last) {
    if (last->weight > 0) return last->id;
  }
  return absl::InternalError("no id has a chance to be chosen");
}

absl::StatusOr<std::vector<Sampler::Probability>> Sampler::Distribution(
    absl::Span<const float> logits, Workspace& workspace) const {
  RETURN_IF_ERROR(Narrow(logits, workspace));
  std::sort(workspace.candidates.begin(), workspace.candidates.end(), BetterFirst);
  double sum = 0;
  for (const Candidate& candidate : workspace.candidates) sum += candidate.weight;
  std::vector<Probability> distribution;
  for (const Candidate& candidate : workspace.candidates) {
    distribution.push_back({candidate.id, candidate.weight / sum});
  }
  return distribution;
}

}  // namespace minicpmv
