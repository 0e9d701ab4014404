#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/engine/handover.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/sequence.h"
#include "runtime/kv/page_pool.h"
#include "runtime/kv/prefix_index.h"
#include "tests/services/router/fake_model.h"

namespace minicpmv::router {

// An engine in virtual time: scheduler, page pool and prefix index are the real ones, driven as
// Engine drives them; steps take a made-up time, and the fake model reads and writes the pages that
// each step was planned with when the step ends. Whoever still uses a page that has gone to
// somebody else makes wrong tokens.
//
// As with Engine, calls return at once and observers hear later. An observer is kept until its
// OnEnd, or until the engine dies, which nobody hears of.
class SimulatedEngine {
 public:
  struct Options {
    SchedulerOptions scheduler;
    int64_t pages = 0;
    std::vector<int32_t> stops;
    uint32_t vocabulary = 0;
    std::function<absl::Duration(const StepSize&)> step_time;
    std::function<bool()> makes_no_number;  // asked for each token: whether its logits are bad
    // Calls it then, if the engine still lives.
    std::function<void(absl::Duration, std::function<void()>)> after;
  };

  explicit SimulatedEngine(Options options);

  // See Engine.
  SequenceId SubmitLanding(SequenceRequest request, std::shared_ptr<LandingObserver> observer);
  SequenceId SubmitPrefill(PrefillRequest request, std::shared_ptr<PrefillObserver> observer);
  void ProvideRows(SequenceId id, int64_t span, uint64_t rows);
  void PagesLanded(SequenceId id);
  void ComputeLanding(SequenceId id, std::shared_ptr<PrefillObserver> observer);
  void Cancel(SequenceId id);
  // Somebody else's sequence, which nobody observes: older than all others, it takes pages from
  // them while it grows.
  void SubmitOlder(int64_t tokens, int64_t new_tokens);
  // A device fails: nothing that it works for goes on.
  void Break();

  const PagePool& pool() const { return pool_; }
  int64_t held_pages() const { return pool_.pages() - pool_.free_pages() - pool_.idle_pages(); }
  int64_t sequences() const { return scheduler_.waiting() + scheduler_.running(); }
  int64_t landings() const { return scheduler_.landings(); }

 private:
  struct Live {
    // Positions that are handed over, or computed before the first token is chosen.
    int64_t prompt() const { return given - (landing != nullptr); }

    std::vector<int32_t> tokens;   // all that are known; of a prefill without the last
    std::vector<uint64_t> inputs;  // of each token; 0 where rows are missing
    std::vector<PrefixSpan> spans;
    std::vector<bool> has_rows;  // of each span
    std::optional<PageKeyChain> keys;
    int64_t given = 0;  // tokens that it came with
    int64_t max_tokens = 0;
    uint64_t seed = 0;
    bool prompt_only = false;
    bool stops = true;
    int64_t send_from = 0;  // of a prefill
    std::shared_ptr<LandingObserver> landing;
    std::shared_ptr<PrefillObserver> prefill;  // of a landing, too, while it computes its prompt
    int64_t held = 0;
    int64_t remembered = 0;  // pages
    absl::Status failure;
    Finish finish;
  };
  struct Show {
    SequenceId id = 0;
    std::shared_ptr<PrefillObserver> observer;
    PageRun run;
  };
  struct Flight {
    Scheduler::Step step;
    std::vector<std::vector<int32_t>> pages;  // of each piece, as it was planned
    std::vector<Show> shows;
  };
  struct Chosen {
    Live* live;
    int32_t token;
  };
  struct Computed {
    Live* live;
    int64_t tokens;
  };
  struct Recalled {
    Live* live;
  };
  using News = std::variant<Chosen, Computed, Recalled, Scheduler::Ending>;

  void Tell(std::function<void()> message);
  void Work();
  SequenceId Enter(std::unique_ptr<Live> live, const std::string& cache_scope,
                   Scheduler::Sequence needs);
  bool TakeAdmissions();
  void TellRowsReady(SequenceId id, const Live& live);
  std::optional<Scheduler::Step> Plan();
  bool Issue();
  void AddShow(const Scheduler::Piece& piece, const Live& live, Flight& flight);
  void Book();
  FakeAttention Compute(const Scheduler::Piece& piece, const std::vector<int32_t>& pages,
                        const Live& live);
  Scheduler::Outcome Take(Live& live, uint32_t token);
  void Remember(SequenceId id, Live& live, int64_t end);
  void Collect();
  void Deliver();
  void Hand(const Chosen& chosen);
  void Hand(const Computed& computed);
  void Hand(const Recalled& recalled);
  void Hand(const Scheduler::Ending& ending);
  uint64_t& Cell(int32_t page, int64_t position) {
    return cells_[page * kPageSize + position % kPageSize];
  }

  const Options options_;
  std::vector<uint64_t> cells_;  // [pages][kPageSize]
  const CacheLayer layer_;       // the same memory
  PagePool pool_;
  Scheduler scheduler_;
  std::map<SequenceId, std::unique_ptr<Live>> lives_;
  std::deque<Flight> flights_;
  std::vector<News> news_;
  std::vector<std::function<void()>> inbox_;
  bool is_awake_ = false;
  SequenceId last_id_ = 0;
};

}  // namespace minicpmv::router
