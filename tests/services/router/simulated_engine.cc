#include "tests/services/router/simulated_engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "runtime/kv/page_table.h"
#include "tests/services/router/fake_model.h"

namespace minicpmv::router {

SimulatedEngine::SimulatedEngine(Options options)
    : options_(std::move(options)),
      cells_(options_.pages * kPageSize),
      // A cell is the keys and the values of a position in a head of one number.
      layer_{cells_.data(), DType::kF32, options_.pages, /*kv_heads=*/1, /*head_size=*/1},
      pool_(options_.pages),
      scheduler_(options_.scheduler, pool_) {
  CHECK_EQ(layer_.page_bytes(), kPageSize * sizeof(uint64_t));
}

SequenceId SimulatedEngine::SubmitLanding(SequenceRequest request,
                                          std::shared_ptr<LandingObserver> observer) {
  auto live = std::make_unique<Live>();
  live->tokens = std::move(request.tokens);
  live->spans = std::move(request.spans);
  live->max_tokens = request.prompt_tokens + request.sampling.max_new_tokens;
  live->seed = request.sampling.seed;
  live->landing = std::move(observer);
  Scheduler::Sequence needs;
  needs.waits = false;
  needs.lands = true;
  return Enter(std::move(live), request.cache_scope, needs);
}

SequenceId SimulatedEngine::SubmitPrefill(PrefillRequest request,
                                          std::shared_ptr<PrefillObserver> observer) {
  auto live = std::make_unique<Live>();
  live->tokens = std::move(request.tokens);
  live->tokens.pop_back();
  live->spans = std::move(request.spans);
  live->prompt_only = true;
  live->send_from = request.send_from;
  live->prefill = std::move(observer);
  Scheduler::Sequence needs;
  needs.samples = false;
  needs.waits = false;
  return Enter(std::move(live), request.cache_scope, needs);
}

void SimulatedEngine::SubmitOlder(int64_t tokens, int64_t new_tokens) {
  auto live = std::make_unique<Live>();
  live->tokens.assign(tokens, static_cast<int32_t>(last_id_));
  live->max_tokens = tokens + new_tokens;
  live->stops = false;
  Scheduler::Sequence needs;
  needs.again = 0;
  Enter(std::move(live), absl::StrCat("nobody's ", last_id_), needs);
}

SequenceId SimulatedEngine::Enter(std::unique_ptr<Live> live, const std::string& cache_scope,
                                  Scheduler::Sequence needs) {
  live->given = static_cast<int64_t>(live->tokens.size());
  live->inputs.assign(live->tokens.begin(), live->tokens.end());
  for (const PrefixSpan& span : live->spans) {
    std::fill_n(live->inputs.begin() + span.first, span.count, 0);
  }
  live->has_rows.resize(live->spans.size());
  live->keys.emplace(PrefixContext{"fake", "cells", "sim", cache_scope});
  live->keys->Extend(absl::MakeConstSpan(live->tokens).first(live->given - 1), live->spans);
  needs.tokens = live->given;
  needs.rows_ready = live->spans.empty() ? needs.tokens : live->spans[0].first;
  needs.max_tokens = live->max_tokens;
  needs.keys.assign(live->keys->keys().begin(), live->keys->keys().end());
  const SequenceId id = ++last_id_;
  // A function is copied, what it holds is not.
  Tell([this, id, needs = std::move(needs),
        held = std::make_shared<std::unique_ptr<Live>>(std::move(live))] {
    Live& entered = *(lives_[id] = std::move(*held));
    if (const absl::Status added = scheduler_.Add(id, needs); !added.ok()) {
      entered.failure = added;
      Hand(Scheduler::Ending{id, Scheduler::End::kCancelled});
    }
    TakeAdmissions();
  });
  return id;
}

void SimulatedEngine::ProvideRows(SequenceId id, int64_t span, uint64_t rows) {
  Tell([this, id, span, rows] {
    const auto found = lives_.find(id);
    if (found == lives_.end()) return;
    Live& live = *found->second;
    CHECK(!live.has_rows[span]) << "rows twice for span " << span;
    live.has_rows[span] = true;
    for (int64_t row = 0; row < live.spans[span].count; ++row) {
      live.inputs[live.spans[span].first + row] = FakeRowInput(rows, row);
    }
    TellRowsReady(id, live);
  });
}

void SimulatedEngine::PagesLanded(SequenceId id) {
  Tell([this, id] { scheduler_.Landed(id); });
}

void SimulatedEngine::ComputeLanding(SequenceId id, std::shared_ptr<PrefillObserver> observer) {
  Tell([this, id, observer = std::move(observer)] {
    const auto found = lives_.find(id);
    if (found == lives_.end()) {
      observer->OnEnd(absl::NotFoundError(absl::StrCat("no sequence ", id)));
      return;
    }
    Live& live = *found->second;
    CHECK(live.landing != nullptr && live.prefill == nullptr) << "sequence " << id;
    live.prefill = observer;
    observer->OnAdmitted(live.held);
    scheduler_.Compute(id);
    if (live.held == live.prompt()) news_.push_back(Computed{&live, live.held});
  });
}

void SimulatedEngine::Cancel(SequenceId id) {
  Tell([this, id] { scheduler_.Cancel(id); });
}

void SimulatedEngine::Break() {
  Tell([this] {
    for (const auto& [id, live] : lives_) {
      if (live->failure.ok()) live->failure = absl::InternalError("a device failed");
      scheduler_.Stop(id);
    }
  });
}

void SimulatedEngine::Tell(std::function<void()> message) {
  inbox_.push_back(std::move(message));
  if (std::exchange(is_awake_, true)) return;
  options_.after(absl::ZeroDuration(), [this] { Work(); });
}

void SimulatedEngine::Work() {
  is_awake_ = false;
  for (const std::function<void()>& message : std::exchange(inbox_, {})) message();
  while (Issue()) {
  }
  Collect();
  Deliver();
}

bool SimulatedEngine::TakeAdmissions() {
  const std::vector<Scheduler::Admission> admissions = scheduler_.TakeAdmissions();
  for (const auto& [id, held] : admissions) {
    Live& live = *lives_[id];
    live.held = held;
    TellRowsReady(id, live);
    if (live.landing != nullptr) {
      const absl::Span<const int32_t> pages = scheduler_.pages(id);
      live.landing->OnAdmitted(
          LandingPages({&layer_, 1}, {pages.begin(), pages.end()}, held, live.prompt()));
    } else if (live.prefill != nullptr) {
      live.prefill->OnAdmitted(held);
    }
  }
  return !admissions.empty();
}

// What lies before the first span that is missing can be computed, and what is held is.
void SimulatedEngine::TellRowsReady(SequenceId id, const Live& live) {
  int64_t ready = live.given;
  for (size_t i = 0; i < live.spans.size(); ++i) {
    const PrefixSpan& span = live.spans[i];
    if (live.has_rows[i] || span.first + span.count <= live.held) continue;
    ready = std::max(span.first, live.held);
    break;
  }
  scheduler_.RowsReady(id, ready);
}

std::optional<Scheduler::Step> SimulatedEngine::Plan() {
  for (;;) {
    std::optional<Scheduler::Step> step = scheduler_.Plan();
    if (!TakeAdmissions() || step) return step;
  }
}

bool SimulatedEngine::Issue() {
  std::optional<Scheduler::Step> step = Plan();
  if (!step) return false;
  Flight& flight = flights_.emplace_back();
  flight.step = *std::move(step);
  for (const Scheduler::Piece& piece : flight.step.pieces) {
    const auto pages = scheduler_.pages(piece.sequence).first(PagesFor(piece.first + piece.count));
    flight.pages.emplace_back(pages.begin(), pages.end());
    AddShow(piece, *lives_[piece.sequence], flight);
  }
  // A step that comes behind another ends when its last stage is free.
  const auto depth = static_cast<int64_t>(flights_.size());
  options_.after(depth * options_.step_time(flight.step.size), [this] {
    Book();
    Work();
  });
  return true;
}

// The pages that are complete once the piece is computed and were not before; those that were held
// from the start come with the first piece.
void SimulatedEngine::AddShow(const Scheduler::Piece& piece, const Live& live, Flight& flight) {
  if (!live.prompt_only) return;
  const int64_t computed = piece.first + piece.count;
  const int64_t end = computed == live.prompt() ? computed : computed / kPageSize * kPageSize;
  const int64_t before = piece.first == live.held ? 0 : piece.first / kPageSize * kPageSize;
  const int64_t first = std::max(before, live.send_from);
  if (first >= end) return;
  Show& show = flight.shows.emplace_back();
  show.id = piece.sequence;
  show.observer = live.prefill;
  show.run = {/*layer=*/0, first, end - first, {}};
  for (int64_t page = first / kPageSize; page < PagesFor(end); ++page) {
    show.run.pages.push_back(layer_.Page(flight.pages.back()[page]));
  }
  scheduler_.Hold(piece.sequence, 1);
}

void SimulatedEngine::Book() {
  const Flight flight = std::move(flights_.front());
  flights_.pop_front();
  for (const PageCopy& copy : flight.step.copies) {
    std::copy_n(&Cell(copy.from, 0), kPageSize, &Cell(copy.to, 0));
  }
  std::vector<Scheduler::Outcome> outcomes;
  for (size_t i = 0; i < flight.step.pieces.size(); ++i) {
    const Scheduler::Piece& piece = flight.step.pieces[i];
    Live& live = *lives_[piece.sequence];
    const FakeAttention attention = Compute(piece, flight.pages[i], live);
    const int64_t end = piece.first + piece.count;
    Remember(piece.sequence, live, end);
    if (live.prefill != nullptr) news_.push_back(Computed{&live, end});
    outcomes.push_back(
        piece.samples ? Take(live, attention.Choose(live.seed, options_.stops, options_.vocabulary))
                      : Scheduler::Outcome::kNothing);
  }
  for (const Show& show : flight.shows) {
    show.observer->OnPages(
        show.run, [this, id = show.id] { Tell([this, id] { scheduler_.Release(id, 1); }); });
  }
  scheduler_.Commit(flight.step.id, outcomes, absl::Milliseconds(1));
  Collect();
}

FakeAttention SimulatedEngine::Compute(const Scheduler::Piece& piece,
                                       const std::vector<int32_t>& pages, const Live& live) {
  FakeAttention attention;
  for (int64_t position = 0; position < piece.first; ++position) {
    attention.See(Cell(pages[position / kPageSize], position));
  }
  for (int64_t position = piece.first; position < piece.first + piece.count; ++position) {
    uint64_t& cell = Cell(pages[position / kPageSize], position);
    cell = attention.CellOf(live.inputs[position]);
    attention.See(cell);
  }
  return attention;
}

Scheduler::Outcome SimulatedEngine::Take(Live& live, uint32_t token) {
  if (options_.makes_no_number()) {
    if (live.failure.ok()) live.failure = absl::InternalError("logits that are no numbers");
    return Scheduler::Outcome::kEnd;
  }
  const auto id = static_cast<int32_t>(token);
  live.tokens.push_back(id);
  live.inputs.push_back(token);
  if (live.landing != nullptr) news_.push_back(Chosen{&live, id});
  if (live.stops && id == options_.stops.front()) {
    live.finish.reason = FinishReason::kStop;
    return Scheduler::Outcome::kEnd;
  }
  if (static_cast<int64_t>(live.tokens.size()) == live.max_tokens) {
    live.finish.reason = FinishReason::kLength;
    return Scheduler::Outcome::kEnd;
  }
  return Scheduler::Outcome::kToken;
}

void SimulatedEngine::Remember(SequenceId id, Live& live, int64_t end) {
  const int64_t full = end / kPageSize;
  if (full == live.remembered) return;
  live.remembered = full;
  live.keys->Extend(absl::MakeConstSpan(live.tokens).first(full * kPageSize), live.spans);
  scheduler_.Remember(id, live.keys->keys().first(full));
}

void SimulatedEngine::Collect() {
  for (const SequenceId id : scheduler_.TakeRecalls()) news_.push_back(Recalled{lives_[id].get()});
  for (const Scheduler::Ending& ending : scheduler_.TakeEndings()) news_.push_back(ending);
}

void SimulatedEngine::Deliver() {
  for (const News& news : std::exchange(news_, {})) {
    std::visit([this](const auto& it) { Hand(it); }, news);
  }
}

void SimulatedEngine::Hand(const Chosen& chosen) { chosen.live->landing->OnToken(chosen.token); }

void SimulatedEngine::Hand(const Computed& computed) {
  Live& live = *computed.live;
  if (live.prefill == nullptr) return;
  if (computed.tokens > live.held) live.prefill->OnComputed(computed.tokens);
  // A prefill ends when its pages have been sent, a landing goes on.
  if (live.landing == nullptr || computed.tokens < live.prompt()) return;
  std::exchange(live.prefill, nullptr)->OnEnd(live.finish);
}

void SimulatedEngine::Hand(const Recalled& recalled) { recalled.live->landing->OnRecalled(); }

void SimulatedEngine::Hand(const Scheduler::Ending& ending) {
  const std::unique_ptr<Live> live = std::move(lives_.extract(ending.sequence).mapped());
  absl::StatusOr<Finish> finish = live->finish;
  if (!live->failure.ok()) {
    finish = live->failure;
  } else if (ending.end == Scheduler::End::kCancelled) {
    finish = absl::CancelledError("cancelled");
  } else if (ending.end == Scheduler::End::kPreempted) {
    finish = absl::AbortedError("gave its pages to an older one");
  }
  if (live->prefill != nullptr) live->prefill->OnEnd(finish);
  if (live->landing != nullptr) live->landing->OnEnd(finish);
}

}  // namespace minicpmv::router
