#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "runtime/engine/cost_model.h"
#include "runtime/engine/sequence.h"
#include "runtime/kv/page_pool.h"
#include "runtime/kv/page_table.h"
#include "runtime/kv/prefix_index.h"

namespace minicpmv {

struct SchedulerOptions {
  int depth = 1;  // the most steps between Plan and Commit; one for each stage keeps all busy
  int64_t max_rows = 512;       // of a step
  int64_t max_logit_rows = 64;  // of a step
  int64_t chunk = 512;          // the most rows of one prompt in a step; <= max_rows
  int64_t headroom = 256;       // new tokens that an admitted sequence holds pages for
  // While sequences decode, prompts add to a step only what the cost model expects to end within
  // this, though never fewer than kPageSize rows. While none does, a step takes twice as long:
  // so long may who comes then have to wait. Infinite: chunk alone counts.
  absl::Duration step_budget = absl::InfiniteDuration();
};

// Which rows of which sequences are computed next. Pure: no thread, device, lock or clock of its
// own; the same calls give the same steps. Sequences are known by their token counts; what the
// tokens are is the caller's business.
//
// A sequence waits, holding nothing, until the pool has pages for its tokens and the headroom, and
// one more for each that runs and may grow; in the order of age, and none overtakes. One that does
// not wait is admitted when it is added or not at all. Then it runs: its tokens are computed in
// chunks, several of which may be in flight; the last one brings the logits that the first new
// token is chosen from; then each step one row, planned when everything before it is committed. It
// grows page by page; when the pool is dry the youngest running sequence is preempted, so the
// oldest always finishes.
//
// Pages that have been filled well may be remembered under keys; a sequence that brings such keys
// takes over what is known of them when it is admitted. Remembered pages that nobody else holds
// make room before anybody is preempted.
//
// A landing's first positions, all but the last token's, are written by somebody else: its pages
// are lent until that one says that it is done or gives up. When somebody older needs them the
// landing is recalled, and ends once they are no longer lent. And pages may be read by others when
// no step names them any more: they are not given back before those have been counted out
// (Hold, Release).
//
// A step takes the decodes that have waited longest first, at most a depth-th part of all that
// decode (so that a pipeline of stages stays full), then prompts: first the one that has waited
// longest measured by what is left of it, both in rows, so that a short prompt need not wait for a
// long one, nor a long one for short ones without end.
class Scheduler {
 public:
  struct Sequence {
    int64_t tokens = 0;      // it comes with: the prompt and what was generated before; >= 1
    int64_t rows_ready = 0;  // the first of them that can be computed now
    int64_t max_tokens = 0;  // with all new ones; > tokens if it samples
    // False: prefill only. It ends once its tokens are computed, without logits.
    bool samples = true;
    bool waits = true;   // for pages
    bool lands = false;  // its first tokens - 1 positions come from elsewhere; it samples, and does
                         // not wait
    // Of its first full pages, as far as they may be taken over: fewer than `tokens` positions.
    std::vector<PageKey> keys;
    // Logits of positions from here on are wanted beside the one that is sampled from.
    int64_t logits_from = std::numeric_limits<int64_t>::max();
    SequenceId again = -1;  // the id under which a preempted one first came: its age
  };

  struct Piece {
    SequenceId sequence = 0;
    // Positions [first, first + count): they lie in the first PagesFor(first + count) pages.
    int64_t first = 0;
    int64_t count = 0;
    int64_t logits = 0;    // of the last so many rows are wanted
    bool samples = false;  // a token is chosen from the last row
  };
  struct Step {
    int64_t id = 0;                // rises by one
    std::vector<PageCopy> copies;  // before anything is written
    std::vector<Piece> pieces;
    StepSize size;
  };

  // What became of a piece: for the ones that sample a token or the end, for the others nothing.
  enum class Outcome : uint8_t {
    kNothing,
    kToken,  // one more token is known
    kEnd,    // the sequence ended here: with a last token, or by a failure of its own
  };

  enum class End : uint8_t {
    kDone,       // Outcome::kEnd, or a prefill-only sequence is computed
    kCancelled,  // Cancel
    kPreempted,  // the pool was dry
  };
  struct Ending {
    SequenceId sequence = 0;
    End end = End::kDone;
  };

  // The pool outlives the scheduler and is nobody else's.
  Scheduler(const SchedulerOptions& options, PagePool& pool);

  // RESOURCE_EXHAUSTED: all pages together are too few for the most that the sequence may become.
  static absl::Status CheckFits(const Sequence& sequence, int64_t pages);
  // `id` is larger than all before. RESOURCE_EXHAUSTED: see CheckFits; or it does not wait, and
  // there is no room now or somebody waits already.
  absl::Status Add(SequenceId id, const Sequence& sequence);
  // Sequences that were admitted since the last call, in order. They may have ended.
  struct Admission {
    SequenceId sequence = 0;
    int64_t held = 0;  // positions taken over: they are computed
  };
  std::vector<Admission> TakeAdmissions();
  // The first `tokens` can be computed; never fewer than before. Unknown ids are passed over: it
  // may have ended.
  void RowsReady(SequenceId id, int64_t tokens);
  // A landing's pages are no longer lent: its positions but the last are in place (Landed), or it
  // computes what it did not take over itself, in chunks, but the last (Compute). Unknown ids, and
  // landings that are lent no longer, are passed over.
  void Landed(SequenceId id);
  void Compute(SequenceId id);
  // It ends as soon as no step names it and its pages are not held; they are no longer lent.
  // Unknown ids are passed over.
  void Cancel(SequenceId id);
  // The same, but a landing whose pages are lent is recalled first.
  void Stop(SequenceId id);
  // Landings that must end since the last call, in order: whoever their pages are lent to is to
  // give them up, by Cancel.
  std::vector<SequenceId> TakeRecalls();

  // `count` more or fewer of those outside read pages of the sequence. Both are told of sequences
  // that have not ended, and one with readers does not end.
  void Hold(SequenceId id, int64_t count);
  void Release(SequenceId id, int64_t count);

  // The sequence's first pages are full and well computed: sequences to come may have them under
  // these keys.
  void Remember(SequenceId id, absl::Span<const PageKey> keys);

  // The next step, or nothing: `depth` steps are out, or there is nothing to compute until
  // something is committed, added or ready.
  std::optional<Step> Plan();
  // Books the oldest step that is out. `outcomes` has one entry a piece. `duration`: how long its
  // work took, waiting in line left out.
  void Commit(int64_t step, absl::Span<const Outcome> outcomes, absl::Duration duration);

  // Sequences that ended since the last call, in order; their pages are back.
  std::vector<Ending> TakeEndings();

  // Of a running sequence, in the order of positions. Changes with the next call.
  absl::Span<const int32_t> pages(SequenceId id) const;

  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  // Landings that are lent, and their pages but for those taken over.
  int64_t landings() const;
  int64_t landing_pages() const;
  int64_t steps_out() const { return static_cast<int64_t>(out_.size()); }
  const CostModel& cost() const { return cost_; }

 private:
  // Smaller is older: the id under which it first came, then the id.
  using Age = std::pair<int64_t, SequenceId>;
  struct State {
    State(SequenceId id, Age age, const Sequence& needs, PagePool& pool)
        : id(id), age(age), needs(needs), pages(pool), known(needs.tokens) {}

    // Positions that are computed in chunks. A landing's last token is its first decode.
    int64_t prompt() const { return needs.tokens - needs.lands; }
    // From now on one row at a time.
    bool decodes() const { return needs.samples && !lent && committed >= prompt(); }
    int64_t ready() const { return std::min(needs.rows_ready, prompt()) - issued; }
    bool prefills() const {
      return !ending && !lent && ready() > 0;
    }

    const SequenceId id;
    const Age age;
    Sequence needs;
    PageTable pages;
    int64_t held = 0;       // positions taken over at admission
    int64_t known;          // tokens: those it came with and those sampled
    int64_t issued = 0;     // positions
    int64_t committed = 0;  // positions
    int64_t steps = 0;      // that are out and name it
    int64_t readers = 0;    // outside
    bool lent = false;      // somebody outside writes
    int64_t served = 0;     // the last step that it decoded in
    // Rows of other prompts that were computed while rows of this one could have been.
    int64_t passed_by = 0;
    std::optional<End> ending;
  };

  // Positions that are ever computed: a last token is not.
  static int64_t MostPositions(const Sequence& needs);
  static int64_t LogitsOf(const State& state, int64_t count);
  Step Assemble();
  bool TryAdmit(State& state);
  void Admit();
  bool AddDecodes(Step& step);
  void AddPrompts(Step& step);
  int64_t RowsWithin(absl::Duration budget, const StepSize& size, int64_t first,
                     int64_t most) const;
  std::vector<Age> PromptsInOrder() const;
  bool MakeRoom(State& state, int64_t count, Step& step);
  void AddPiece(State& state, int64_t count, Step& step);
  void MarkEnding(State& state, End end);
  void FinishIfIdle(State& state);

  const SchedulerOptions options_;
  PagePool& pool_;
  PrefixIndex index_;
  CostModel cost_;
  absl::flat_hash_map<SequenceId, std::unique_ptr<State>> states_;
  std::map<Age, State*> waiting_;
  std::map<Age, State*> running_;  // those that are ending, too, until nobody uses their pages
  int64_t growing_ = 0;            // of them, those that sample
  std::deque<Step> out_;
  std::vector<Admission> admissions_;
  std::vector<SequenceId> recalls_;
  std::vector<Ending> endings_;
  int64_t next_step_ = 1;
  SequenceId last_added_ = -1;
};

}  // namespace minicpmv
