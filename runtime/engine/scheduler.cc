#include "runtime/engine/scheduler.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace minicpmv {
namespace {

// How many times its budget a step may take while nobody decodes.
constexpr int kAloneBudgets = 2;

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, PagePool& pool)
    : options_(options), pool_(pool), index_(pool) {
  CHECK_GE(options.depth, 1);
  CHECK_GE(options.chunk, 1);
  CHECK_GE(options.max_logit_rows, 1);
  CHECK_GE(options.max_rows, options.chunk);
  CHECK_GE(options.headroom, 0);
}

int64_t Scheduler::MostPositions(const Sequence& needs) {
  return needs.samples ? needs.max_tokens - 1 : needs.tokens;
}

absl::Status Scheduler::CheckFits(const Sequence& sequence, int64_t pages) {
  const int64_t needed = PagesFor(MostPositions(sequence));
  if (needed <= pages) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("a sequence of ", sequence.tokens, " tokens that may grow to ",
                   std::max(sequence.tokens, sequence.max_tokens), " needs ", needed, " pages of ",
                   kPageSize, " positions; there are ", pages));
}

absl::Status Scheduler::Add(SequenceId id, const Sequence& sequence) {
  CHECK_GT(id, last_added_);
  CHECK_GE(sequence.tokens, 1);
  CHECK(sequence.rows_ready >= 0 && sequence.rows_ready <= sequence.tokens) << sequence.rows_ready;
  CHECK(!sequence.samples || sequence.max_tokens > sequence.tokens) << sequence.max_tokens;
  CHECK(!sequence.lands || (sequence.samples && !sequence.waits));
  CHECK_LT(static_cast<int64_t>(sequence.keys.size()) * kPageSize, sequence.tokens);
  if (absl::Status fits = CheckFits(sequence, pool_.pages()); !fits.ok()) return fits;
  last_added_ = id;
  auto state = std::make_unique<State>(id, Age(sequence.again < 0 ? id : sequence.again, id),
                                       sequence, pool_);
  if (sequence.waits) {
    waiting_[state->age] = state.get();
  } else {
    // Whoever waits would wait for ever if others were let in before.
    Admit();
    if (!waiting_.empty() || !TryAdmit(*state)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no pages for ", sequence.tokens, " tokens now: ", pool_.free_pages(),
                       " of ", pool_.pages(), " are free, ", pool_.idle_pages(), " more could be, ",
                       waiting(), " sequences wait"));
    }
    state->lent = sequence.lands;
  }
  states_[id] = std::move(state);
  return absl::OkStatus();
}

std::vector<Scheduler::Admission> Scheduler::TakeAdmissions() {
  return std::exchange(admissions_, {});
}

void Scheduler::RowsReady(SequenceId id, int64_t tokens) {
  const auto found = states_.find(id);
  if (found == states_.end()) return;
  Sequence& needs = found->second->needs;
  CHECK(tokens >= needs.rows_ready && tokens <= needs.tokens) << tokens;
  needs.rows_ready = tokens;
}

void Scheduler::Landed(SequenceId id) {
  const auto found = states_.find(id);
  if (found == states_.end() || !found->second->lent) return;
  State& state = *found->second;
  state.lent = false;
  state.issued = state.committed = state.prompt();
  FinishIfIdle(state);
}

void Scheduler::Compute(SequenceId id) {
  const auto found = states_.find(id);
  if (found == states_.end() || !found->second->lent) return;
  found->second->lent = false;
  FinishIfIdle(*found->second);
}

void Scheduler::Cancel(SequenceId id) {
  const auto found = states_.find(id);
  if (found == states_.end()) return;
  State& state = *found->second;
  // The reason for which it was recalled stands.
  const bool recalled = std::exchange(state.lent, false) && state.ending;
  MarkEnding(state, recalled ? *state.ending : End::kCancelled);
}

void Scheduler::Stop(SequenceId id) {
  const auto found = states_.find(id);
  if (found != states_.end()) MarkEnding(*found->second, End::kCancelled);
}

void Scheduler::MarkEnding(State& state, End end) {
  if (state.lent && !state.ending) recalls_.push_back(state.id);
  state.ending = end;
  FinishIfIdle(state);
}

void Scheduler::FinishIfIdle(State& state) {
  if (!state.ending || state.steps > 0 || state.readers > 0 || state.lent) return;
  endings_.push_back({state.id, *state.ending});
  waiting_.erase(state.age);
  if (running_.erase(state.age) > 0) growing_ -= state.needs.samples;
  states_.erase(state.id);
}

std::vector<SequenceId> Scheduler::TakeRecalls() { return std::exchange(recalls_, {}); }

void Scheduler::Hold(SequenceId id, int64_t count) {
  const auto found = states_.find(id);
  CHECK(found != states_.end()) << "sequence " << id;
  found->second->readers += count;
}

void Scheduler::Release(SequenceId id, int64_t count) {
  const auto found = states_.find(id);
  CHECK(found != states_.end()) << "sequence " << id;
  found->second->readers -= count;
  CHECK_GE(found->second->readers, 0);
  FinishIfIdle(*found->second);
}

void Scheduler::Remember(SequenceId id, absl::Span<const PageKey> keys) {
  index_.Insert(keys, pages(id));
}

int64_t Scheduler::landings() const {
  return std::count_if(running_.begin(), running_.end(),
                       [](const auto& entry) { return entry.second->lent; });
}

int64_t Scheduler::landing_pages() const {
  int64_t sum = 0;
  for (const auto& [age, state] : running_) {
    if (!state->lent) continue;
    sum += static_cast<int64_t>(state->pages.pages().size()) - state->held / kPageSize;
  }
  return sum;
}

std::vector<Scheduler::Ending> Scheduler::TakeEndings() { return std::exchange(endings_, {}); }

absl::Span<const int32_t> Scheduler::pages(SequenceId id) const {
  const auto found = states_.find(id);
  CHECK(found != states_.end()) << "sequence " << id;
  return found->second->pages.pages();
}

std::optional<Scheduler::Step> Scheduler::Plan() {
  if (steps_out() >= options_.depth) return std::nullopt;
  for (;;) {
    const size_t endings = endings_.size();
    Step step = Assemble();
    if (!step.pieces.empty()) {
      step.id = next_step_++;
      out_.push_back(step);
      return step;
    }
    // A sequence that had to go may have left room for another.
    if (endings_.size() == endings) return std::nullopt;
  }
}

Scheduler::Step Scheduler::Assemble() {
  Step step;
  // Who waits gets nothing as long as somebody who runs is short of pages.
  if (AddDecodes(step)) Admit();
  AddPrompts(step);
  return step;
}

bool Scheduler::TryAdmit(State& state) {
  const Sequence& needs = state.needs;
  const PrefixIndex::Hit hit = index_.Lookup(needs.keys);
  PageTable pages(pool_);
  pages.Adopt(hit.pages);
  const int64_t positions = std::min(needs.tokens + options_.headroom, MostPositions(needs));
  const int64_t more = PagesFor(positions) - static_cast<int64_t>(hit.pages.size());
  // One page for each that grows is left to it, so that the newcomer need not go at once.
  if (more + growing_ > pool_.free_pages() + pool_.idle_pages()) return false;
  index_.Reclaim(more - pool_.free_pages());
  CHECK(pages.Grow(positions).ok());
  state.pages = std::move(pages);
  state.held = state.issued = state.committed = hit.tokens;
  state.needs.rows_ready = std::max(needs.rows_ready, hit.tokens);
  running_[state.age] = &state;
  growing_ += needs.samples;
  admissions_.push_back({state.id, state.held});
  return true;
}

void Scheduler::Admit() {
  while (!waiting_.empty() && TryAdmit(*waiting_.begin()->second)) {
    waiting_.erase(waiting_.begin());
  }
}

// False: pages were short.
bool Scheduler::AddDecodes(Step& step) {
  int64_t decoding = 0;
  struct Ready {
    int64_t served;
    Age age;
  };
  std::vector<Ready> ready;
  for (const auto& [age, state] : running_) {
    if (state->ending || !state->decodes()) continue;
    ++decoding;
    if (state->issued == state->committed) ready.push_back({state->served, age});
  }
  const int64_t share = (decoding + options_.depth - 1) / options_.depth;
  const int64_t most = std::min({share, options_.max_rows, options_.max_logit_rows});
  std::sort(ready.begin(), ready.end(), [](const Ready& a, const Ready& b) {
    return a.served != b.served ? a.served < b.served : a.age < b.age;
  });
  int64_t taken = 0;
  bool enough = true;
  for (const Ready& candidate : ready) {
    if (taken == most) break;
    // Making room for one may have ended another.
    const auto found = running_.find(candidate.age);
    if (found == running_.end() || found->second->ending) continue;
    State& state = *found->second;
    if (!MakeRoom(state, 1, step)) {
      enough = false;
      continue;
    }
    state.served = next_step_;
    AddPiece(state, 1, step);
    ++taken;
  }
  return enough;
}

void Scheduler::AddPrompts(Step& step) {
  const bool others_decode = std::any_of(running_.begin(), running_.end(), [](const auto& entry) {
    return !entry.second->ending && entry.second->decodes();
  });
  int64_t logits = 0;
  for (const Piece& piece : step.pieces) logits += piece.logits;
  const absl::Duration budget =
      others_decode ? options_.step_budget : kAloneBudgets * options_.step_budget;
  int64_t prompt_rows = 0;
  const std::vector<Age> prompts = PromptsInOrder();
  for (const Age& age : prompts) {
    const auto found = running_.find(age);
    if (found == running_.end() || found->second->ending) continue;
    State& state = *found->second;
    int64_t count = std::min({state.ready(), options_.chunk, options_.max_rows - step.size.rows});
    const int64_t least = std::max<int64_t>(0, kPageSize - prompt_rows);
    count = std::min(count, std::max(least, RowsWithin(budget, step.size, state.issued, count)));
    while (count > 0 && logits + LogitsOf(state, count) > options_.max_logit_rows) --count;
    if (count == 0 || !MakeRoom(state, count, step)) continue;
    logits += LogitsOf(state, count);
    prompt_rows += count;
    state.passed_by -= count;
    AddPiece(state, count, step);
  }
  for (const Age& age : prompts) {
    const auto found = running_.find(age);
    if (found != running_.end()) found->second->passed_by += prompt_rows;
  }
}

// Highest response ratio next: (waited + left) / left.
std::vector<Scheduler::Age> Scheduler::PromptsInOrder() const {
  std::vector<std::pair<double, Age>> prompts;
  for (const auto& [age, state] : running_) {
    if (!state->prefills()) continue;
    const double left = static_cast<double>(state->prompt() - state->issued);
    prompts.emplace_back(-static_cast<double>(1 + state->passed_by) / left, age);
  }
  std::sort(prompts.begin(), prompts.end());
  std::vector<Age> order;
  order.reserve(prompts.size());
  for (const auto& [ratio, age] : prompts) order.push_back(age);
  return order;
}

int64_t Scheduler::RowsWithin(absl::Duration budget, const StepSize& size, int64_t first,
                              int64_t most) const {
  const auto fits = [&](int64_t count) {
    StepSize more = size;
    more.Add(first, count);
    return cost_.Predict(more) <= budget;
  };
  int64_t fitting = 0;
  for (int64_t beyond = most + 1; beyond - fitting > 1;) {
    const int64_t middle = fitting + (beyond - fitting) / 2;
    (fits(middle) ? fitting : beyond) = middle;
  }
  return fitting;
}

// Pages for the next `count` positions, taken from the index and then from the youngest where the
// pool is dry. False: not now, or the sequence itself had to go.
bool Scheduler::MakeRoom(State& state, int64_t count, Step& step) {
  for (;;) {
    index_.Reclaim(state.pages.PagesToWrite(state.issued, count) - pool_.free_pages());
    if (state.pages.PrepareWrite(state.issued, count, &step.copies).ok()) return true;
    State* youngest = nullptr;
    for (auto entry = running_.rbegin(); entry != running_.rend(); ++entry) {
      // Its pages are on their way back.
      if (entry->second->ending) return false;
      if (youngest == nullptr) youngest = entry->second;
    }
    const bool itself = youngest == &state;
    MarkEnding(*youngest, End::kPreempted);
    if (itself) return false;
  }
}

// Of the next `count` positions, the last ones whose logits are wanted.
int64_t Scheduler::LogitsOf(const State& state, int64_t count) {
  const int64_t end = state.issued + count;
  const int64_t shown = end - std::max(state.issued, state.needs.logits_from);
  const bool samples = state.needs.samples && end == state.known;
  return std::max<int64_t>(shown, samples);
}

void Scheduler::AddPiece(State& state, int64_t count, Step& step) {
  Piece piece;
  piece.sequence = state.id;
  piece.first = state.issued;
  piece.count = count;
  piece.logits = LogitsOf(state, count);
  piece.samples = state.needs.samples && state.issued + count == state.known;
  step.pieces.push_back(piece);
  step.size.Add(piece.first, count);
  state.issued += count;
  ++state.steps;
}

void Scheduler::Commit(int64_t id, absl::Span<const Outcome> outcomes, absl::Duration duration) {
  CHECK(!out_.empty());
  const Step step = std::move(out_.front());
  out_.pop_front();
  CHECK_EQ(step.id, id);
  CHECK_EQ(step.pieces.size(), outcomes.size());
  cost_.Measure(step.size, duration);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const Piece& piece = step.pieces[i];
    const auto found = states_.find(piece.sequence);
    CHECK(found != states_.end()) << "sequence " << piece.sequence;
    State& state = *found->second;
    CHECK_EQ(state.committed, piece.first);
    state.committed += piece.count;
    --state.steps;
    if (outcomes[i] == Outcome::kToken) {
      CHECK(piece.samples);
      ++state.known;
      CHECK_LT(state.known, state.needs.max_tokens);
    } else if (outcomes[i] == Outcome::kEnd) {
      CHECK(piece.samples);
      if (state.ending != End::kCancelled) state.ending = End::kDone;
    } else {
      CHECK(!piece.samples);
      if (!state.needs.samples && state.committed == state.needs.tokens && !state.ending) {
        state.ending = End::kDone;
      }
    }
    FinishIfIdle(state);
  }
}

}  // namespace minicpmv
