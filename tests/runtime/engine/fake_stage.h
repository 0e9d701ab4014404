#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "runtime/device/cpu_device.h"
#include "runtime/engine/pipeline.h"

namespace minicpmv {

// A language model by hashing: the logits after a position are random numbers that depend on every
// token (or embedding row) from the first on, read back through the pages that earlier steps were
// given. A page that changed hands too early, a row in the wrong place or a token out of order
// gives other tokens.
class FakeModel {
 public:
  static constexpr int64_t kVocabulary = 97;
  static constexpr int64_t kHidden = 4;
  static constexpr int32_t kStop = 96;

  // What the model says after `history`; a negative entry -1-x stands for an embedding row of value
  // x.
  static std::vector<float> LogitsAfter(const std::vector<int32_t>& history);
  // The greedy continuation, at most `count` tokens, an ending kStop included if it stops there.
  static std::vector<int32_t> Continue(std::vector<int32_t> history, int64_t count,
                                       bool stops = true);
};

// One stage of that model, on a stream of its own. The first one embeds, the last one gives logits;
// all keep a cache and check that the others saw the same.
class FakeStage final : public Stage {
 public:
  struct Behaviour {
    absl::Duration delay;                // of each step, at random up to this
    std::atomic<int> fails_at_step{-1};  // from this one on every step fails
    std::atomic<int> nan_at_step{-1};    // this one's first row of logits holds a NaN
    std::atomic<int> halts_at_step{-1};  // this one waits until Resume()
    std::atomic<int> copies{0};          // pages copied

    void Resume() {
      halts_at_step = -1;
      halts_at_step.notify_all();
    }
  };

  // It is one layer, number `layer`.
  FakeStage(int64_t pages, int64_t layer, bool is_last, Behaviour& behaviour, uint32_t seed);
  ~FakeStage() override;

  void Forward(const StageStep& step, absl::AnyInvocable<void(StageResult)> ended) override;
  absl::Span<const CacheLayer> cache() const override { return {&layer_view_, 1}; }

 private:
  absl::Status Compute(const StageStep& step);

  const int64_t layer_;
  const bool is_last_;
  Behaviour& behaviour_;
  CpuDevice device_;
  std::unique_ptr<Stream> stream_;
  std::vector<int64_t> cache_;  // [pages][kPageSize] of token codes
  CacheLayer layer_view_;       // the same bytes
  uint32_t random_;
  int step_ = 0;
};

}  // namespace minicpmv
