#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "runtime/base/clock.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/local_model.h"
#include "services/common/load_board.h"
#include "services/common/metrics.h"
#include "services/common/own_landings.h"
#include "services/common/worker.h"

namespace minicpmv {

// What prefill and decode of one worker share: the model with its one engine and one page pool, the
// landings that can be adopted, and what both report. Thread-safe; made before the services, and
// lives longer.
class EngineRoom {
 public:
  // The model has an engine. Both live longer than this.
  EngineRoom(Worker& worker, LocalModel& model);
  ~EngineRoom();

  Worker& worker() { return worker_; }
  LocalModel& model() { return model_; }
  Engine& engine() { return model_.engine(); }
  const Clock& clock() const { return worker_.clock(); }
  OwnLandings& own_landings() { return own_landings_; }

  // Prompt positions that were computed or found for one call.
  void CountPrompt(int64_t text, int64_t media, int64_t cached);
  void CountToken() { generated_tokens_.Increment(); }
  // How a call ended, as its engine says.
  void CountEnding(const absl::Status& status);

  // Prompt positions that calls still wait for; the sum is what this worker has before it.
  void AddOutstanding(int64_t tokens) { outstanding_ += tokens; }

 private:
  // Units a second, of which those of the last steps count most.
  struct Rate {
    double units = 0, seconds = 0;
    void Add(int64_t more, absl::Duration busy);
    double per_second() const { return seconds > 0 ? units / seconds : 0; }
  };
  void OnStep(const StepReport& report);
  void Refresh();
  void Report(control::v1::WorkerLoad& load);

  Worker& worker_;
  LocalModel& model_;
  OwnLandings own_landings_;
  std::atomic<int64_t> outstanding_ = 0;
  std::mutex mutex_;
  Rate prompt_rate_, decode_rate_;  // guarded by mutex_

  prometheus::Counter &text_tokens_, &media_tokens_, &cached_tokens_, &generated_tokens_;
  prometheus::Counter &preemptions_, &nan_logits_, &prefix_query_tokens_, &prefix_hit_tokens_;
  prometheus::Gauge &free_pages_, &held_pages_, &cached_pages_, &landing_pages_, &landings_;
  prometheus::Histogram &prompt_steps_, &decode_steps_, &mixed_steps_;  // seconds
  prometheus::Histogram &sequences_, &rows_;                            // of a step
  std::unique_ptr<LoadBoard::Entry> board_entry_;
  std::unique_ptr<Listeners<>::Entry> refresh_;
};

}  // namespace minicpmv
