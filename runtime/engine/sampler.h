#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/engine/sampling.h"

namespace minicpmv {

// Chooses the tokens of one sequence, in double precision from one row of float32 logits. In this
// order:
//   1. repetition penalty: each distinct id generated so far, once: s < 0 ? s * p : s / p; the
//   prompt does
//      not count;
//   2. min_new_tokens: while fewer were generated, stop ids have no chance;
//   greedy ends here: the largest score, of equals the smallest id;
//   3. temperature: s / t;
//   4. top-k: scores below the k-th largest are out; those equal to it stay;
//   5. top-p: from the smallest on, ids are out as long as the sum of probabilities up to and with
//   them is
//      at most 1 - p; of equals the larger id counts as the smaller; the largest always stays;
//   6. softmax over what is left, and a draw: the coin walks the ids in rising order.
// One thread at a time.
class Sampler {
 public:
  struct Candidate {
    int32_t id = 0;
    double score = 0;
    double weight = 0;  // exp of the score's distance from the best
  };
  // Room that samplers used one after the other may share. Holds nothing from one call to the next.
  struct Workspace {
    std::vector<Candidate> candidates;
    std::vector<double> scores;   // for finding the n-th
    std::vector<uint8_t> marked;  // [vocabulary] ids whose score is not their logit
  };
  struct Probability {
    int32_t id = 0;
    double probability = 0;
  };

  // `settings` are valid. `generated` are tokens that earlier workers chose for this sequence.
  // `choice` tells the replies of one request apart.
  Sampler(const SamplingSettings& settings, absl::Span<const int32_t> generated,
          uint32_t choice = 0);

  // The token for `position` of the sequence. INTERNAL: a logit is NaN or +infinity, or no id has a
  // chance.
  absl::StatusOr<int32_t> Choose(absl::Span<const float> logits, int64_t position,
                                 Workspace& workspace) const;

  // What Choose draws from: the ids that are left, most likely first, of equals the smaller id, and
  // their probabilities. Greedy: one id.
  absl::StatusOr<std::vector<Probability>> Distribution(absl::Span<const float> logits,
                                                        Workspace& workspace) const;

  // `token` now belongs to the sequence.
  void Append(int32_t token);

  bool IsStop(int32_t token) const;
  int64_t generated() const { return generated_; }  // tokens, those of earlier workers included
  const SamplingSettings& settings() const { return settings_; }

 private:
  // Leaves the candidates that remain after step 5, in no order, with weights.
  absl::Status Narrow(absl::Span<const float> logits, Workspace& workspace) const;
  void KeepBest(absl::Span<const float> logits, absl::Span<const Candidate> changed, int64_t count,
                Workspace& workspace) const;
  double Sum(absl::Span<const float> logits, absl::Span<const Candidate> changed, double best,
             const Workspace& workspace) const;
  void KeepNucleus(absl::Span<const float> logits, absl::Span<const Candidate> changed, double best,
                   Workspace& workspace) const;

  SamplingSettings settings_;
  uint32_t choice_;
  int64_t generated_ = 0;
  std::vector<int32_t> distinct_;              // generated ids, each once; empty without a penalty
  absl::flat_hash_set<int32_t> is_generated_;  // the same
};

}  // namespace minicpmv
