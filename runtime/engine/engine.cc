#include "runtime/engine/engine.h"

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/request_checks.h"
#include "runtime/engine/sampler.h"
#include "runtime/kv/prefix_index.h"

namespace minicpmv {
namespace {

// What others tell the engine thread.
struct Submitted {
  SequenceId id = 0;
  SequenceRequest request;  // of a prefill: without the last token
  // Of its first pages, as far as they may be taken over; where it uses prefixes.
  std::optional<PageKeyChain> keys;
  int64_t send_from = 0;
  // One of them; the one of a landing twice.
  SequenceObserver* observer = nullptr;
  LandingObserver* landing = nullptr;
  PrefillObserver* prefill = nullptr;
  absl::Time at;
};
struct Cancelled {
  SequenceId id;
};
struct RowsLanded {
  SequenceId id;
  int64_t span;
  ConstTensorView rows;
};
struct AllPagesLanded {
  SequenceId id;
};
struct Adopted {
  SequenceId id;
  PrefillObserver* observer;
};
struct PagesSent {
  SequenceId id;
};
struct StepEnded {
  int slot;
};
using Message =
    std::variant<Submitted, Cancelled, RowsLanded, AllPagesLanded, Adopted, PagesSent, StepEnded>;

// A status that shares nothing with this one: thread sanitizers cannot see the reference counts
// inside a prebuilt Abseil, and what crosses threads should be quiet under them.
absl::Status Detached(const absl::Status& status) {
  return absl::Status(status.code(), status.message());
}

}  // namespace

// The engine thread owns everything here but what `mutex_` guards; flights are lent to the last
// stage's thread from Issue until it has sent StepEnded.
class Engine::Core {
 public:
  Core(const EngineOptions& options, Pipeline& pipeline, const Clock& clock)
      : options_(options),
        pipeline_(pipeline),
        clock_(clock),
        pool_(options.pages),
        scheduler_(options.scheduler, pool_),
        flights_(options.scheduler.depth) {
    CHECK_LE(options.scheduler.depth, pipeline.options().depth);
    CHECK_LE(options.scheduler.max_rows, pipeline.options().max_rows);
    CHECK_LE(options.scheduler.max_logit_rows, pipeline.options().max_logit_rows);
    CHECK_GE(options.pages, 1);
    CHECK_GE(options.max_positions, 1);
    stats_.pages = options.pages;
    stats_.free_pages = options.pages;
    thread_ = std::thread([this] { Work(); });
  }

  ~Core() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      closing_ = true;
      told_.notify_one();
    }
    thread_.join();
  }

  absl::StatusOr<SequenceId> Submit(SequenceRequest request, SequenceObserver& observer) {
    RETURN_IF_ERROR(CheckSequence(request, pipeline_.options().vocabulary, options_.max_positions));
    Submitted submitted;
    submitted.observer = &observer;
    submitted.request = std::move(request);
    return Enter(std::move(submitted));
  }

  absl::StatusOr<SequenceId> SubmitLanding(SequenceRequest request, LandingObserver& observer) {
    RETURN_IF_ERROR(CheckLanding(request, pipeline_.options().vocabulary, options_.max_positions));
    request.uses_prefixes = true;
    const int64_t last = static_cast<int64_t>(request.tokens.size()) - 1;
    request.show_logits_from = std::max(request.show_logits_from, last);
    Submitted submitted;
    submitted.observer = submitted.landing = &observer;
    submitted.request = std::move(request);
    return Enter(std::move(submitted));
  }

  absl::StatusOr<SequenceId> SubmitPrefill(PrefillRequest request, PrefillObserver& observer) {
    RETURN_IF_ERROR(CheckPrefill(request, pipeline_.options().vocabulary, options_.max_positions));
    Submitted submitted;
    submitted.prefill = &observer;
    submitted.send_from = request.send_from;
    SequenceRequest& computed = submitted.request;
    computed.id = std::move(request.id);
    computed.tokens = std::move(request.tokens);
    computed.tokens.pop_back();
    computed.prompt_tokens =
        std::min(request.prompt_tokens, static_cast<int64_t>(computed.tokens.size()));
    computed.spans = std::move(request.spans);
    computed.uses_prefixes = true;
    computed.cache_scope = std::move(request.cache_scope);
    return Enter(std::move(submitted));
  }

  void Tell(Message message) {
    // Notified under the lock: once the message is taken, this thread is done with the engine.
    const std::lock_guard<std::mutex> lock(mutex_);
    inbox_.push_back(std::move(message));
    told_.notify_one();
  }

  EngineStats stats() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return stats_;
  }

  void WatchSteps(std::function<void(const StepReport&)> watch) {
    const std::lock_guard<std::mutex> lock(watch_mutex_);
    watch_ = std::move(watch);
  }

 private:
  // One sequence, from the moment the engine thread hears of it to OnEnd.
  struct Live {
    Live(Submitted submitted, int64_t max_tokens)
        : request(std::move(submitted.request)),
          observer(submitted.observer),
          landing(submitted.landing),
          prefill(submitted.prefill),
          send_from(submitted.send_from),
          tokens(std::move(request.tokens)),
          given(static_cast<int64_t>(tokens.size())),
          max_tokens(max_tokens),
          rows(request.spans.size()),
          keys(std::move(submitted.keys)),
          sampler(request.sampling, absl::MakeConstSpan(tokens).subspan(request.prompt_tokens),
                  request.choice) {
      finish.submitted = submitted.at;
    }

    bool samples() const { return observer != nullptr; }
    // Positions that are handed over, or computed before the first token is chosen.
    int64_t prompt() const { return given - (landing != nullptr); }

    SequenceRequest request;      // without its tokens
    SequenceObserver* observer;   // null: prefill only
    LandingObserver* landing;     // the same one, of a landing
    PrefillObserver* prefill;     // of a prefill, and of a landing while it computes its prompt
    int64_t send_from;            // of a prefill
    std::vector<int32_t> tokens;  // all that are known; of a prefill without the last
    int64_t given;                // of them, how many it came with
    int64_t max_tokens;
    int64_t held = 0;                   // positions taken over from the prefix index
    std::vector<ConstTensorView> rows;  // of each span; null until they land
    std::optional<PageKeyChain> keys;
    int64_t remembered = 0;  // pages
    Sampler sampler;
    absl::Status failure;  // what it ends with instead of CANCELLED
    Finish finish;
    bool started = false;
  };

  // Pages of one sequence that a step completes, or that it finds complete.
  struct Show {
    SequenceId id = 0;
    PrefillObserver* observer = nullptr;
    int64_t first = 0;
    int64_t count = 0;
    std::vector<int32_t> pages;
    int64_t layers = 0;  // that were shown; written by one stage after the other
  };

  // A step that is out, and what its end brought.
  struct Flight {
    Scheduler::Step step;
    std::vector<Live*> lives;  // of each piece
    std::vector<Show> shows;
    std::vector<absl::StatusOr<int32_t>> choices;  // of each piece that samples, in order
    StageResult result;
    bool ended = false;
  };

  // What an observer is to hear once the next step is on its way.
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

  Scheduler::Sequence NeedsOf(const Submitted& submitted) const {
    const SequenceRequest& request = submitted.request;
    Scheduler::Sequence needs;
    needs.tokens = static_cast<int64_t>(request.tokens.size());
    needs.rows_ready = request.spans.empty() ? needs.tokens : request.spans[0].first;
    needs.samples = submitted.observer != nullptr;
    if (needs.samples) needs.max_tokens = MaxTokens(request, options_.max_positions);
    needs.waits = submitted.observer != nullptr && submitted.landing == nullptr;
    needs.lands = submitted.landing != nullptr;
    if (submitted.keys) {
      needs.keys.assign(submitted.keys->keys().begin(), submitted.keys->keys().end());
    }
    needs.logits_from = request.show_logits_from;
    needs.again = request.again;
    return needs;
  }

  PrefixContext ContextOf(const SequenceRequest& request) const {
    return {options_.model_fingerprint, options_.cache_layout, options_.numerics_class,
            request.cache_scope};
  }

  // Takes in what was checked.
  absl::StatusOr<SequenceId> Enter(Submitted submitted) {
    const SequenceRequest& request = submitted.request;
    RETURN_IF_ERROR(Scheduler::CheckFits(NeedsOf(submitted), options_.pages));
    if (request.uses_prefixes) {
      // What chooses the first token is computed in any case, and so is what is to be shown.
      const int64_t tokens = static_cast<int64_t>(request.tokens.size());
      const int64_t most = std::clamp<int64_t>(request.show_logits_from, 0, tokens - 1);
      submitted.keys.emplace(ContextOf(request));
      submitted.keys->Extend(absl::MakeConstSpan(request.tokens).first(most), request.spans);
    }
    submitted.at = clock_.Now();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_.ok()) return Detached(failure_);
    if (closing_) return absl::CancelledError("the engine is closing");
    const SequenceId id = submitted.id = next_id_++;
    inbox_.push_back(std::move(submitted));
    told_.notify_one();
    return id;
  }

  void Work() {
    for (bool open = true; open || !lives_.empty();) {
      std::vector<Message> messages;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        told_.wait(lock, [&] { return !inbox_.empty() || (open && closing_); });
        messages.swap(inbox_);
        if (closing_) open = false;
      }
      for (Message& message : messages) {
        std::visit([this](auto& it) { Hear(it); }, message);
      }
      while (flights_out_ > 0 && OldestFlight().ended) Book(OldestFlight());
      if (!open) {
        for (const auto& [id, live] : lives_) scheduler_.Cancel(id);
      } else {
        while (IssueOne()) {
        }
      }
      CollectEndings();
      PublishStats();
      Deliver();
    }
  }

  Flight& OldestFlight() { return flights_[oldest_step_ % flights_.size()]; }

  void Hear(Submitted& submitted) {
    const SequenceId id = submitted.id;
    const Scheduler::Sequence needs = NeedsOf(submitted);
    auto live = std::make_unique<Live>(std::move(submitted), needs.max_tokens);
    const absl::Status added = broken_.ok() ? scheduler_.Add(id, needs) : broken_;
    if (!added.ok()) {
      TellEnd(*live, Detached(added));
      return;
    }
    lives_[id] = std::move(live);
    TakeAdmissions();
  }

  // They have pages, and some of them may be filled. False: nobody was admitted.
  bool TakeAdmissions() {
    const std::vector<Scheduler::Admission> admissions = scheduler_.TakeAdmissions();
    for (const auto& [id, held] : admissions) Admit(id, held);
    return !admissions.empty();
  }

  void Admit(SequenceId id, int64_t held) {
    Live& live = *lives_[id];
    live.held = held;
    if (live.request.uses_prefixes) {
      totals_.prefix_query_tokens += live.prompt();
      totals_.prefix_hit_tokens += live.held;
    }
    TellRowsReady(id, live);
    if (live.landing == nullptr && live.prefill == nullptr) return;
    PublishStats();
    if (live.landing != nullptr) {
      const absl::Span<const int32_t> pages = scheduler_.pages(id);
      live.landing->OnAdmitted(
          LandingPages(pipeline_.cache(), {pages.begin(), pages.end()}, live.held, live.prompt()));
    } else {
      live.prefill->OnAdmitted(live.held);
    }
  }

  void Hear(const Cancelled& cancelled) { scheduler_.Cancel(cancelled.id); }

  void Hear(const AllPagesLanded& landed) { scheduler_.Landed(landed.id); }

  void Hear(const Adopted& adopted) {
    const auto found = lives_.find(adopted.id);
    if (found == lives_.end()) {
      adopted.observer->OnEnd(absl::NotFoundError(absl::StrCat("no sequence ", adopted.id)));
      return;
    }
    Live& live = *found->second;
    CHECK(live.landing != nullptr && live.prefill == nullptr) << "sequence " << adopted.id;
    live.prefill = adopted.observer;
    live.prefill->OnAdmitted(live.held);
    scheduler_.Compute(adopted.id);
    if (live.held == live.prompt()) news_.push_back(Computed{&live, live.held});
  }

  void Hear(const PagesSent& sent) { scheduler_.Release(sent.id, 1); }

  void Hear(const RowsLanded& landed) {
    const auto found = lives_.find(landed.id);
    if (found == lives_.end()) return;
    Live& live = *found->second;
    const auto& spans = live.request.spans;
    const ConstTensorView& rows = landed.rows;
    if (landed.span < 0 || landed.span >= static_cast<int64_t>(spans.size()) ||
        live.rows[landed.span].data != nullptr) {
      End(landed.id, absl::InvalidArgumentError(absl::StrCat("rows for span ", landed.span,
                                                             ", which takes none (any more)")));
      return;
    }
    const Shape wanted = {spans[landed.span].count, pipeline_.options().hidden};
    if (!(rows.shape == wanted) || rows.data == nullptr ||
        (rows.dtype != DType::kF32 && rows.dtype != DType::kBF16 && rows.dtype != DType::kF16)) {
      End(landed.id, absl::InvalidArgumentError(absl::StrCat(
                         "rows for span ", landed.span, " are ", rows.shape.ToString(), " ",
                         NameOf(rows.dtype), " where ", wanted.ToString(), " floats belong")));
      return;
    }
    live.rows[landed.span] = rows;
    TellRowsReady(landed.id, live);
  }

  // What lies before the first span that is missing can be computed, and what is held is.
  void TellRowsReady(SequenceId id, const Live& live) {
    int64_t ready = live.given;
    for (size_t i = 0; i < live.rows.size(); ++i) {
      const SequenceRequest::Span& span = live.request.spans[i];
      if (live.rows[i].data != nullptr || span.first + span.count <= live.held) continue;
      ready = std::max(span.first, live.held);
      break;
    }
    scheduler_.RowsReady(id, ready);
  }

  void Hear(const StepEnded& ended) { flights_[ended.slot].ended = true; }

  void End(SequenceId id, const absl::Status& status) {
    Live& live = *lives_[id];
    if (live.failure.ok()) live.failure = status;
    scheduler_.Stop(id);
  }

  std::optional<Scheduler::Step> Plan() {
    for (;;) {
      std::optional<Scheduler::Step> step = scheduler_.Plan();
      // Whoever was admitted may not need all the rows that it seemed to wait for.
      if (!TakeAdmissions() || step) return step;
    }
  }

  bool IssueOne() {
    std::optional<Scheduler::Step> step = Plan();
    if (!step) return false;
    const int slot = static_cast<int>(step->id % flights_.size());
    Flight& flight = flights_[slot];
    flight.step = *std::move(step);
    flight.lives.clear();
    flight.choices.clear();
    flight.shows.clear();
    flight.ended = false;
    const absl::Time now = clock_.Now();
    for (const Scheduler::Piece& piece : flight.step.pieces) {
      Live& live = *lives_[piece.sequence];
      if (!std::exchange(live.started, true)) live.finish.started = now;
      flight.lives.push_back(&live);
      AddShow(piece, live, flight);
    }
    FillBatch(flight, pipeline_.batch(slot));
    pipeline_.copies(slot) = flight.step.copies;
    pipeline_.layer_ended(slot) = nullptr;
    if (!flight.shows.empty()) {
      pipeline_.layer_ended(slot) = [this, &flight](int64_t layer) { ShowPages(flight, layer); };
    }
    if (flights_out_++ == 0) {
      oldest_step_ = flight.step.id;
      oldest_since_ = now;
    }
    pipeline_.Issue(slot, [this, slot](StageResult result) {
      Choose(slot, std::move(result));
      Tell(StepEnded{slot});
    });
    return true;
  }

  // The pages that are complete once the piece is computed and were not before; those that were
  // held from the start come with the first piece.
  void AddShow(const Scheduler::Piece& piece, const Live& live, Flight& flight) {
    if (live.samples()) return;
    const int64_t computed = piece.first + piece.count;
    const int64_t end = computed == live.prompt() ? computed : computed / kPageSize * kPageSize;
    const int64_t before = piece.first == live.held ? 0 : piece.first / kPageSize * kPageSize;
    const int64_t first = std::max(before, live.send_from);
    if (first >= end) return;
    const auto pages = scheduler_.pages(piece.sequence).subspan(0, PagesFor(end));
    flight.shows.push_back({piece.sequence,
                            live.prefill,
                            first,
                            end - first,
                            {pages.begin() + first / kPageSize, pages.end()}});
    scheduler_.Hold(piece.sequence, layers());
  }

  int64_t layers() const { return static_cast<int64_t>(pipeline_.cache().size()); }

  // On the thread of the layer's stage.
  void ShowPages(Flight& flight, int64_t layer) {
    for (Show& show : flight.shows) {
      PageRun run{layer, show.first, show.count, {}};
      for (int32_t page : show.pages) run.pages.push_back(pipeline_.cache()[layer].Page(page));
      ++show.layers;
      show.observer->OnPages(std::move(run), [this, id = show.id] { Tell(PagesSent{id}); });
    }
  }

  void FillBatch(const Flight& flight, StepBatch& batch) const {
    batch = StepBatch();
    batch.query_starts.push_back(0);
    batch.page_starts.push_back(0);
    for (size_t i = 0; i < flight.step.pieces.size(); ++i) {
      const Scheduler::Piece& piece = flight.step.pieces[i];
      const Live& live = *flight.lives[i];
      const int64_t row = batch.rows();
      const int64_t end = piece.first + piece.count;
      for (int64_t position = piece.first; position < end; ++position) {
        batch.tokens.push_back(live.tokens[position]);
        batch.positions.push_back(static_cast<int32_t>(position));
      }
      for (int64_t back = piece.logits; back > 0; --back) {
        batch.logit_rows.push_back(static_cast<int32_t>(batch.rows() - back));
      }
      for (size_t s = 0; s < live.rows.size(); ++s) {
        const SequenceRequest::Span& span = live.request.spans[s];
        const int64_t from = std::max(span.first, piece.first);
        const int64_t to = std::min(span.first + span.count, end);
        if (from >= to) continue;
        batch.spans.push_back({static_cast<int32_t>(row + from - piece.first),
                               live.rows[s].Rows(from - span.first, to - from)});
      }
      const auto pages = scheduler_.pages(piece.sequence).first(PagesFor(end));
      batch.pages.insert(batch.pages.end(), pages.begin(), pages.end());
      batch.query_starts.push_back(batch.rows());
      batch.page_starts.push_back(static_cast<int32_t>(batch.pages.size()));
    }
  }

  absl::Span<const float> LogitsRow(int slot, int64_t row) const {
    const ConstTensorView view = pipeline_.logits(slot).Rows(row, 1);
    return {view.as<float>(), static_cast<size_t>(view.columns())};
  }

  // On the last stage's thread: the steps behind are queued already, and the engine thread is free.
  void Choose(int slot, StageResult result) {
    Flight& flight = flights_[slot];
    flight.result = std::move(result);
    if (!flight.result.status.ok()) return;
    int64_t row = 0;
    for (size_t i = 0; i < flight.step.pieces.size(); ++i) {
      const Scheduler::Piece& piece = flight.step.pieces[i];
      row += piece.logits;
      if (!piece.samples) continue;
      flight.choices.push_back(flight.lives[i]->sampler.Choose(
          LogitsRow(slot, row - 1), piece.first + piece.count, workspace_));
    }
  }

  void Book(Flight& flight) {
    if (!flight.result.status.ok() && broken_.ok()) Break(flight.result.status);
    const int slot = static_cast<int>(oldest_step_ % flights_.size());
    const absl::Time now = clock_.Now();
    std::vector<Scheduler::Outcome> outcomes;
    auto choice = flight.choices.begin();
    int64_t row = 0;
    for (size_t i = 0; i < flight.step.pieces.size(); ++i) {
      const Scheduler::Piece& piece = flight.step.pieces[i];
      Live& live = *flight.lives[i];
      const int64_t end = piece.first + piece.count;
      live.finish.busy += flight.result.busy;
      if (flight.result.status.ok()) {
        totals_.prompt_tokens += std::clamp<int64_t>(live.given - piece.first, 0, piece.count);
        Remember(piece.sequence, live, end);
        if (end == live.prompt()) live.finish.prompt_done = live.finish.ended = now;
        if (live.prefill != nullptr) news_.push_back(Computed{&live, end});
        for (int64_t back = piece.logits; back > 0; --back, ++row) {
          if (end - back < live.request.show_logits_from) continue;
          live.observer->OnLogits(end - back, LogitsRow(slot, row));
        }
      }
      if (!piece.samples) {
        outcomes.push_back(Scheduler::Outcome::kNothing);
      } else if (!flight.result.status.ok()) {
        outcomes.push_back(Scheduler::Outcome::kEnd);
      } else {
        if (end == live.given) live.finish.prompt_done = now;
        live.finish.ended = now;
        outcomes.push_back(Take(live, *choice++));
      }
    }
    scheduler_.Commit(flight.step.id, outcomes, flight.result.busy);
    for (const Show& show : flight.shows) {
      // Layers behind a failed stage.
      if (show.layers < layers()) scheduler_.Release(show.id, layers() - show.layers);
    }
    ++totals_.steps;
    totals_.busy += flight.result.busy;
    totals_.last_step = flight.result.busy;
    if (flight.result.status.ok()) ReportStep(flight);
    ++oldest_step_;
    --flights_out_;
    oldest_since_ = now;
    CollectEndings();
  }

  void ReportStep(const Flight& flight) {
    StepReport report;
    report.sequences = static_cast<int64_t>(flight.step.pieces.size());
    for (size_t i = 0; i < flight.step.pieces.size(); ++i) {
      const Scheduler::Piece& piece = flight.step.pieces[i];
      const int64_t prompt =
          std::clamp<int64_t>(flight.lives[i]->prompt() - piece.first, 0, piece.count);
      report.prompt_rows += prompt;
      report.decode_rows += piece.count - prompt;
    }
    report.busy = flight.result.busy;
    const std::lock_guard<std::mutex> lock(watch_mutex_);
    if (watch_) watch_(report);
  }

  // Positions [0, end) are computed: pages that are full now may be found by others.
  void Remember(SequenceId id, Live& live, int64_t end) {
    const int64_t full = end / kPageSize;
    if (!live.keys || full == live.remembered) return;
    live.remembered = full;
    live.keys->Extend(absl::MakeConstSpan(live.tokens).first(full * kPageSize), live.request.spans);
    const absl::Span<const PageKey> keys = live.keys->keys();
    scheduler_.Remember(id, keys.first(std::min(static_cast<size_t>(full), keys.size())));
  }

  // What a choice means for its sequence.
  Scheduler::Outcome Take(Live& live, const absl::StatusOr<int32_t>& choice) {
    if (!choice.ok()) {
      if (live.failure.ok()) live.failure = choice.status();
      return Scheduler::Outcome::kEnd;
    }
    const int64_t position = static_cast<int64_t>(live.tokens.size());
    const auto& forced = live.request.forced_tokens;
    const bool is_forced = position - live.given < static_cast<int64_t>(forced.size());
    const int32_t token = is_forced ? forced[position - live.given] : *choice;
    live.tokens.push_back(token);
    live.sampler.Append(token);
    ++totals_.new_tokens;
    news_.push_back(Chosen{&live, *choice});
    if (live.sampler.IsStop(token)) {
      live.finish.reason = FinishReason::kStop;
      return Scheduler::Outcome::kEnd;
    }
    if (position + 1 == live.max_tokens) {
      live.finish.reason = FinishReason::kLength;
      return Scheduler::Outcome::kEnd;
    }
    return Scheduler::Outcome::kToken;
  }

  // A device failed: nothing goes on.
  void Break(const absl::Status& status) {
    broken_ = status;
    for (const auto& [id, live] : lives_) End(id, status);
    const std::lock_guard<std::mutex> lock(mutex_);
    failure_ = Detached(status);
  }

  void CollectEndings() {
    for (SequenceId id : scheduler_.TakeRecalls()) news_.push_back(Recalled{lives_[id].get()});
    for (const Scheduler::Ending& ending : scheduler_.TakeEndings()) {
      totals_.preempted += ending.end == Scheduler::End::kPreempted;
      news_.push_back(ending);
    }
  }

  void Deliver() {
    for (const News& news : std::exchange(news_, {})) {
      std::visit([this](const auto& it) { Hand(it); }, news);
    }
  }

  void Hand(const Chosen& chosen) { chosen.live->observer->OnToken(chosen.token); }

  void Hand(const Computed& computed) {
    Live& live = *computed.live;
    if (live.prefill == nullptr) return;
    if (computed.tokens > live.held) live.prefill->OnComputed(computed.tokens);
    // A prefill ends when its pages have been sent, a landing goes on.
    if (live.landing == nullptr || computed.tokens < live.prompt()) return;
    if (computed.tokens == live.held) {
      live.finish.started = live.finish.prompt_done = live.finish.ended = clock_.Now();
    }
    std::exchange(live.prefill, nullptr)->OnEnd(live.finish);
  }

  void Hand(const Recalled& recalled) { recalled.live->landing->OnRecalled(); }

  void Hand(const Scheduler::Ending& ending) {
    // The observer may be gone after the call, and what it holds before: no row is looked at any
    // more.
    const std::unique_ptr<Live> live = std::move(lives_[ending.sequence]);
    lives_.erase(ending.sequence);
    TellEnd(*live, FinishOf(*live, ending.end));
  }

  static void TellEnd(const Live& live, absl::StatusOr<Finish> finish) {
    if (live.prefill != nullptr) {
      live.prefill->OnEnd(finish.ok() ? finish : absl::StatusOr<Finish>(Detached(finish.status())));
    }
    if (live.observer != nullptr) live.observer->OnEnd(std::move(finish));
  }

  static absl::StatusOr<Finish> FinishOf(const Live& live, Scheduler::End end) {
    if (!live.failure.ok()) return Detached(live.failure);
    switch (end) {
      case Scheduler::End::kDone:
        return live.finish;
      case Scheduler::End::kCancelled:
        return absl::CancelledError(absl::StrCat("sequence ", live.request.id, " was cancelled"));
      case Scheduler::End::kPreempted:
        break;
    }
    return absl::AbortedError(
        absl::StrCat("sequence ", live.request.id, " gave its pages to an older one"));
  }

  void PublishStats() {
    totals_.waiting = scheduler_.waiting();
    totals_.running = scheduler_.running();
    totals_.landings = scheduler_.landings();
    totals_.pages = pool_.pages();
    totals_.free_pages = pool_.free_pages();
    totals_.step_since.reset();
    if (flights_out_ > 0) {
      totals_.step_since = oldest_since_;
      totals_.predicted_step = scheduler_.cost().Predict(OldestFlight().step.size);
    }
    totals_.cached_pages = pool_.idle_pages();
    totals_.landing_pages = scheduler_.landing_pages();
    totals_.held_pages =
        totals_.pages - totals_.free_pages - totals_.cached_pages - totals_.landing_pages;
    const std::lock_guard<std::mutex> lock(mutex_);
    stats_ = totals_;
  }

  const EngineOptions options_;
  Pipeline& pipeline_;
  const Clock& clock_;

  PagePool pool_;
  Scheduler scheduler_;
  absl::flat_hash_map<SequenceId, std::unique_ptr<Live>> lives_;
  std::vector<Flight> flights_;  // [depth]; a step's is its number modulo depth, as is its slot
  int64_t oldest_step_ = 0;      // that is out
  absl::Time oldest_since_;      // it is the oldest
  int flights_out_ = 0;
  std::vector<News> news_;
  EngineStats totals_;
  absl::Status broken_;
  Sampler::Workspace workspace_;  // the last stage's thread

  std::mutex watch_mutex_;
  std::function<void(const StepReport&)> watch_;  // guarded by watch_mutex_

  mutable std::mutex mutex_;
  std::condition_variable told_;
  std::vector<Message> inbox_;  // guarded by mutex_, like all below
  SequenceId next_id_ = 0;
  bool closing_ = false;
  absl::Status failure_;
  EngineStats stats_;

  std::thread thread_;
};

Engine::Engine(const EngineOptions& options, Pipeline& pipeline, const Clock& clock)
    : core_(std::make_unique<Core>(options, pipeline, clock)) {}

Engine::~Engine() = default;

absl::StatusOr<SequenceId> Engine::Submit(SequenceRequest request, SequenceObserver& observer) {
  return core_->Submit(std::move(request), observer);
}

void Engine::ProvideRows(SequenceId id, int64_t span, ConstTensorView rows) {
  core_->Tell(RowsLanded{id, span, rows});
}

absl::StatusOr<SequenceId> Engine::SubmitPrefill(PrefillRequest request,
                                                 PrefillObserver& observer) {
  return core_->SubmitPrefill(std::move(request), observer);
}

absl::StatusOr<SequenceId> Engine::SubmitLanding(SequenceRequest request,
                                                 LandingObserver& observer) {
  return core_->SubmitLanding(std::move(request), observer);
}

void Engine::PagesLanded(SequenceId id) { core_->Tell(AllPagesLanded{id}); }

void Engine::ComputeLanding(SequenceId id, PrefillObserver& observer) {
  core_->Tell(Adopted{id, &observer});
}

void Engine::Cancel(SequenceId id) { core_->Tell(Cancelled{id}); }

EngineStats Engine::stats() const { return core_->stats(); }

void Engine::WatchSteps(std::function<void(const StepReport&)> watch) {
  core_->WatchSteps(std::move(watch));
}

}  // namespace minicpmv
