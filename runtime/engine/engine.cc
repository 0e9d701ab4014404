#include "runtime/engine/engine.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/sampler.h"

namespace minicpmv {
namespace {

// What others tell the engine thread.
struct Submitted {
  SequenceId id;
  SequenceRequest request;
  SequenceObserver* observer;
  absl::Time at;
};
struct Cancelled {
  SequenceId id;
};
struct Landed {
  SequenceId id;
  int64_t span;
  ConstTensorView rows;
};
struct StepEnded {
  int slot;
};
using Message = std::variant<Submitted, Cancelled, Landed, StepEnded>;

// A status that shares nothing with this one: thread sanitizers cannot see the reference counts
// inside a prebuilt Abseil, and what crosses threads should be quiet under them.
absl::Status Detached(const absl::Status& status) {
  return absl::Status(status.code(), status.message());
}

// The most tokens that a valid request may grow to, in a context of `max_positions`.
int64_t MaxTokens(const SequenceRequest& request, int64_t max_positions) {
  const int64_t room = max_positions - request.prompt_tokens;
  return request.prompt_tokens + std::min(room, request.sampling.max_new_tokens);
}

absl::Status CheckIds(absl::string_view field, const std::vector<int32_t>& ids,
                      int64_t vocabulary) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, "[", i, "] is ", ids[i], ": ids lie in [0, ", vocabulary, ")"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRequest(const SequenceRequest& request, int64_t vocabulary,
                          int64_t max_positions) {
  RETURN_IF_ERROR(Validate(request.sampling, vocabulary));
  const int64_t tokens = static_cast<int64_t>(request.tokens.size());
  if (tokens == 0) return absl::InvalidArgumentError("tokens: there are none");
  RETURN_IF_ERROR(CheckIds("tokens", request.tokens, vocabulary));
  RETURN_IF_ERROR(CheckIds("forced_tokens", request.forced_tokens, vocabulary));
  if (request.prompt_tokens < 1 || request.prompt_tokens > tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt_tokens is ", request.prompt_tokens, " of ", tokens, " tokens"));
  }
  if (request.prompt_tokens >= max_positions) {
    return absl::InvalidArgumentError(absl::StrCat("the prompt has ", request.prompt_tokens,
                                                   " tokens; the context holds ", max_positions,
                                                   ", the reply included"));
  }
  if (tokens >= MaxTokens(request, max_positions)) {
    return absl::InvalidArgumentError(absl::StrCat("tokens: ", tokens - request.prompt_tokens,
                                                   " were generated, and no more are allowed"));
  }
  int64_t end = 0;
  for (size_t i = 0; i < request.spans.size(); ++i) {
    const SequenceRequest::Span& span = request.spans[i];
    if (span.first < end || span.count < 1 || span.first > request.prompt_tokens ||
        span.count > request.prompt_tokens - span.first) {
      return absl::InvalidArgumentError(
          absl::StrCat("spans[", i, "] of ", span.count, " positions from ", span.first,
                       " does not lie between the one before and the end of the prompt, ",
                       request.prompt_tokens));
    }
    end = span.first + span.count;
  }
  return absl::OkStatus();
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
    RETURN_IF_ERROR(CheckRequest(request, pipeline_.options().vocabulary, options_.max_positions));
    RETURN_IF_ERROR(Scheduler::CheckFits(NeedsOf(request), options_.pages));
    const absl::Time now = clock_.Now();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_.ok()) return Detached(failure_);
    if (closing_) return absl::CancelledError("the engine is closing");
    const SequenceId id = next_id_++;
    inbox_.push_back(Submitted{id, std::move(request), &observer, now});
    told_.notify_one();
    return id;
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

 private:
  // One sequence, from the moment the engine thread hears of it to OnEnd.
  struct Live {
    Live(Submitted submitted, int64_t max_tokens)
        : request(std::move(submitted.request)),
          observer(submitted.observer),
          tokens(std::move(request.tokens)),
          given(static_cast<int64_t>(tokens.size())),
          max_tokens(max_tokens),
          rows(request.spans.size()),
          sampler(request.sampling, absl::MakeConstSpan(tokens).subspan(request.prompt_tokens),
                  request.choice) {
      finish.submitted = submitted.at;
    }

    SequenceRequest request;  // without its tokens
    SequenceObserver* observer;
    std::vector<int32_t> tokens;  // all that are known
    int64_t given;                // of them, how many it came with
    int64_t max_tokens;
    std::vector<ConstTensorView> rows;  // of each span; null until they land
    Sampler sampler;
    absl::Status failure;  // what it ends with instead of CANCELLED
    Finish finish;
    bool started = false;
  };

  // A step that is out, and what its end brought.
  struct Flight {
    Scheduler::Step step;
    std::vector<Live*> lives;                      // of each piece
    std::vector<absl::StatusOr<int32_t>> choices;  // of each piece that samples, in order
    StageResult result;
    bool ended = false;
  };

  // What an observer is to hear once the next step is on its way.
  struct News {
    Live* live = nullptr;
    int32_t token = 0;
    std::optional<Scheduler::Ending> ending;
  };

  static Scheduler::Sequence NeedsOf(const SequenceRequest& request, int64_t tokens,
                                     int64_t max_tokens) {
    Scheduler::Sequence needs;
    needs.tokens = tokens;
    needs.rows_ready = request.spans.empty() ? tokens : request.spans[0].first;
    needs.max_tokens = max_tokens;
    needs.logits_from = request.show_logits_from;
    needs.again = request.again;
    return needs;
  }
  Scheduler::Sequence NeedsOf(const SequenceRequest& request) const {
    return NeedsOf(request, static_cast<int64_t>(request.tokens.size()),
                   MaxTokens(request, options_.max_positions));
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
    const Scheduler::Sequence needs = NeedsOf(submitted.request);
    lives_[id] = std::make_unique<Live>(std::move(submitted), needs.max_tokens);
    const absl::Status added = scheduler_.Add(id, needs);
    CHECK(added.ok()) << added.message();
    if (!broken_.ok()) End(id, broken_);
  }

  void Hear(const Cancelled& cancelled) { scheduler_.Cancel(cancelled.id); }

  void Hear(const Landed& landed) {
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
    const auto missing = std::find_if(live.rows.begin(), live.rows.end(),
                                      [](const auto& view) { return view.data == nullptr; });
    scheduler_.RowsReady(landed.id, missing == live.rows.end()
                                        ? live.given
                                        : spans[missing - live.rows.begin()].first);
  }

  void Hear(const StepEnded& ended) { flights_[ended.slot].ended = true; }

  void End(SequenceId id, const absl::Status& status) {
    Live& live = *lives_[id];
    if (live.failure.ok()) live.failure = status;
    scheduler_.Cancel(id);
  }

  bool IssueOne() {
    std::optional<Scheduler::Step> step = scheduler_.Plan();
    if (!step) return false;
    const int slot = static_cast<int>(step->id % flights_.size());
    Flight& flight = flights_[slot];
    flight.step = *std::move(step);
    flight.lives.clear();
    flight.choices.clear();
    flight.ended = false;
    const absl::Time now = clock_.Now();
    for (const Scheduler::Piece& piece : flight.step.pieces) {
      Live& live = *lives_[piece.sequence];
      if (!std::exchange(live.started, true)) live.finish.started = now;
      flight.lives.push_back(&live);
    }
    FillBatch(flight, pipeline_.batch(slot));
    pipeline_.copies(slot) = flight.step.copies;
    if (flights_out_++ == 0) oldest_step_ = flight.step.id;
    pipeline_.Issue(slot, [this, slot](StageResult result) {
      Choose(slot, std::move(result));
      Tell(StepEnded{slot});
    });
    return true;
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
      if (flight.result.status.ok()) {
        totals_.prompt_tokens += std::clamp<int64_t>(live.given - piece.first, 0, piece.count);
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
    ++totals_.steps;
    totals_.busy += flight.result.busy;
    totals_.last_step = flight.result.busy;
    ++oldest_step_;
    --flights_out_;
    CollectEndings();
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
    news_.push_back({&live, *choice, std::nullopt});
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
    for (const Scheduler::Ending& ending : scheduler_.TakeEndings()) {
      news_.push_back({lives_[ending.sequence].get(), 0, ending});
    }
  }

  void Deliver() {
    for (const News& news : std::exchange(news_, {})) {
      if (!news.ending) {
        news.live->observer->OnToken(news.token);
        continue;
      }
      // The observer may be gone after the call, and what it holds before: no row is looked at any
      // more.
      const std::unique_ptr<Live> live = std::move(lives_[news.ending->sequence]);
      lives_.erase(news.ending->sequence);
      live->observer->OnEnd(FinishOf(*live, news.ending->end));
    }
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
    totals_.pages = pool_.pages();
    totals_.free_pages = pool_.free_pages();
    for (const News& news : news_) {
      totals_.preempted += news.ending && news.ending->end == Scheduler::End::kPreempted;
    }
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
  int flights_out_ = 0;
  std::vector<News> news_;
  EngineStats totals_;
  absl::Status broken_;
  Sampler::Workspace workspace_;  // the last stage's thread

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
  core_->Tell(Landed{id, span, rows});
}

absl::StatusOr<SequenceId> Engine::SubmitPrefill(PrefillRequest, PrefillObserver&) {
  return absl::UnimplementedError("prefill");
}

absl::StatusOr<SequenceId> Engine::SubmitLanding(SequenceRequest, LandingObserver&) {
  return absl::UnimplementedError("landing");
}

void Engine::PagesLanded(SequenceId) {}

void Engine::ComputeLanding(SequenceId, PrefillObserver& observer) {
  observer.OnEnd(absl::UnimplementedError("landing"));
}

void Engine::Cancel(SequenceId id) { core_->Tell(Cancelled{id}); }

EngineStats Engine::stats() const { return core_->stats(); }

}  // namespace minicpmv
