// Thousands of random events on schedulers of every depth over small pools; what must hold is
// checked after each of them. Preempted sequences come again with the tokens they had, as a router
// would send them.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "runtime/base/check.h"
#include "runtime/engine/scheduler.h"

namespace minicpmv {
namespace {

using Outcome = Scheduler::Outcome;

class Simulation {
 public:
  explicit Simulation(uint32_t seed)
      : random_(seed),
        options_(OptionsOf(random_)),
        pool_(2 + random_() % 40),
        scheduler_(options_, pool_) {}

  void Run(int events) {
    for (int i = 0; i < events && !::testing::Test::HasFailure(); ++i) {
      const int what = static_cast<int>(random_() % 100);
      if (what < 15 && live_.size() < 24) {
        AddNew();
      } else if (what < 18) {
        CancelOne();
      } else if (what < 30) {
        ReadyOne();
      } else if (what < 65) {
        PlanOne();
      } else {
        CommitOne();
      }
      CheckBooks();
    }
    Drain();
  }

  int preempted() const { return preempted_; }
  int done() const { return done_; }
  int cancelled() const { return cancelled_; }
  int refused() const { return refused_; }

 private:
  struct Live {
    Scheduler::Sequence needs;
    SequenceId first_id;  // its age
    int64_t issued = 0;
    int64_t known = 0;
    int64_t out = 0;  // steps that name it
    bool cancelled = false;
  };
  struct Flying {
    Scheduler::Step step;
    std::vector<std::vector<int32_t>> pages;  // of each piece
  };

  static SchedulerOptions OptionsOf(std::mt19937& random) {
    SchedulerOptions options;
    options.depth = 1 + random() % 4;
    options.chunk = std::vector<int64_t>{1, 5, 16, 17, 64}[random() % 5];
    options.max_rows = options.chunk + random() % 8;
    options.max_logit_rows = 1 + random() % 6;
    options.headroom = std::vector<int64_t>{0, 3, 40, 256}[random() % 4];
    if (random() % 2 == 0) options.step_budget = absl::Milliseconds(1 + random() % 60);
    return options;
  }

  void AddNew() {
    Scheduler::Sequence needs;
    needs.tokens = 1 + random_() % (random_() % 4 == 0 ? 16 * pool_.pages() : 40);
    needs.rows_ready = random_() % 2 ? needs.tokens : random_() % needs.tokens;
    needs.samples = random_() % 5 != 0;
    needs.max_tokens = needs.tokens + 1 + random_() % 200;
    if (random_() % 8 == 0) needs.logits_from = needs.tokens / 2;
    Add(needs, -1);
  }

  void Add(Scheduler::Sequence needs, SequenceId again) {
    const SequenceId id = next_id_++;
    needs.again = again;
    const int64_t most = needs.samples ? needs.max_tokens - 1 : needs.tokens;
    const absl::Status status = scheduler_.Add(id, needs);
    if (PagesFor(most) > pool_.pages()) {
      EXPECT_TRUE(absl::IsResourceExhausted(status));
      ++refused_;
      return;
    }
    ASSERT_TRUE(status.ok()) << status;
    live_[id] = {needs, again < 0 ? id : again, 0, needs.tokens};
  }

  Live* AnyLive(SequenceId* id) {
    if (live_.empty()) return nullptr;
    auto it = live_.begin();
    std::advance(it, random_() % live_.size());
    *id = it->first;
    return &it->second;
  }

  void CancelOne() {
    SequenceId id = 0;
    if (Live* live = AnyLive(&id)) {
      live->cancelled = true;
      scheduler_.Cancel(id);
      TakeEndings();
    }
  }

  void ReadyOne() {
    SequenceId id = 0;
    if (Live* live = AnyLive(&id)) Ready(id, *live, live->needs.tokens - live->needs.rows_ready);
  }

  void Ready(SequenceId id, Live& live, int64_t most) {
    live.needs.rows_ready += most == 0 ? 0 : 1 + random_() % most;
    scheduler_.RowsReady(id, live.needs.rows_ready);
  }

  void PlanOne() {
    int64_t decoding = 0;
    for (const auto& [id, live] : live_) decoding += live.known > live.needs.tokens;
    std::optional<Scheduler::Step> step = scheduler_.Plan();
    if (!step) {
      TakeEndings();
      return;
    }
    ASSERT_EQ(step->id, last_step_ + 1);
    last_step_ = step->id;
    ASSERT_LT(static_cast<int>(flying_.size()), options_.depth);
    int64_t rows = 0;
    int64_t logits = 0;
    int64_t decodes = 0;
    std::set<SequenceId> named;
    Flying flying;
    for (const Scheduler::Piece& piece : step->pieces) {
      ASSERT_TRUE(named.insert(piece.sequence).second);
      ASSERT_TRUE(live_.contains(piece.sequence)) << "it has ended";
      Live& live = live_[piece.sequence];
      ASSERT_FALSE(live.cancelled);
      ASSERT_GT(piece.count, 0);
      ASSERT_LE(piece.count, options_.chunk);
      ASSERT_EQ(piece.first, live.issued) << "a position left out or computed twice";
      ASSERT_LE(piece.first + piece.count, live.known) << "a token nobody chose";
      const bool decode = piece.first >= live.needs.tokens;
      if (decode) {
        ++decodes;
        ASSERT_EQ(live.out, 0) << "a decode before its token was committed";
        ASSERT_EQ(piece.count, 1);
      } else {
        ASSERT_LE(piece.first + piece.count, live.needs.rows_ready);
      }
      const bool ends_prompt = piece.first + piece.count == live.known;
      ASSERT_EQ(piece.samples, live.needs.samples && ends_prompt);
      ASSERT_GE(piece.logits, int64_t{piece.samples});
      live.issued += piece.count;
      ++live.out;
      rows += piece.count;
      logits += piece.logits;
      const auto pages = scheduler_.pages(piece.sequence);
      const int64_t used = PagesFor(piece.first + piece.count);
      ASSERT_GE(static_cast<int64_t>(pages.size()), used);
      flying.pages.emplace_back(pages.begin(), pages.begin() + used);
    }
    ASSERT_LE(rows, options_.max_rows);
    ASSERT_EQ(rows, step->size.rows);
    ASSERT_LE(logits, options_.max_logit_rows);
    ASSERT_LE(decodes, (decoding + options_.depth - 1) / options_.depth);
    flying.step = *std::move(step);
    flying_.push_back(std::move(flying));
    TakeEndings();
  }

  void CommitOne() {
    if (flying_.empty()) return;
    const Flying flying = std::move(flying_.front());
    flying_.pop_front();
    std::vector<Outcome> outcomes;
    for (const Scheduler::Piece& piece : flying.step.pieces) {
      Live& live = live_[piece.sequence];
      --live.out;
      Outcome outcome = Outcome::kNothing;
      if (piece.samples) {
        const bool ends = live.known + 1 == live.needs.max_tokens || random_() % 100 == 0;
        outcome = ends ? Outcome::kEnd : Outcome::kToken;
        live.known += !ends;
        if (ends && !live.cancelled) finishing_.insert(piece.sequence);
      } else if (!live.needs.samples && piece.first + piece.count == live.needs.tokens) {
        prefilled_.insert(piece.sequence);
      }
      outcomes.push_back(outcome);
    }
    scheduler_.Commit(flying.step.id, outcomes, absl::Microseconds(random_() % 100000));
    TakeEndings();
    for (SequenceId id : finishing_) ADD_FAILURE() << id << " was done and did not end";
  }

  void TakeEndings() {
    for (const Scheduler::Ending& ending : scheduler_.TakeEndings()) {
      ASSERT_TRUE(live_.contains(ending.sequence)) << ending.sequence << " ended twice";
      const Live live = live_[ending.sequence];
      ASSERT_EQ(live.out, 0) << "a step still names it";
      live_.erase(ending.sequence);
      switch (ending.end) {
        case Scheduler::End::kDone:
          ASSERT_TRUE(finishing_.erase(ending.sequence) + prefilled_.erase(ending.sequence) > 0);
          ASSERT_FALSE(live.cancelled);
          ++done_;
          break;
        case Scheduler::End::kCancelled:
          ASSERT_TRUE(live.cancelled);
          prefilled_.erase(ending.sequence);
          ++cancelled_;
          break;
        case Scheduler::End::kPreempted: {
          ASSERT_FALSE(live.cancelled);
          prefilled_.erase(ending.sequence);
          // Somebody older is the reason.
          ASSERT_TRUE(std::any_of(live_.begin(), live_.end(), [&](const auto& other) {
            return std::pair(other.second.first_id, other.first) <
                   std::pair(live.first_id, ending.sequence);
          }));
          ++preempted_;
          Scheduler::Sequence again = live.needs;
          again.tokens = live.known;
          again.rows_ready = again.tokens;
          Add(again, live.first_id);
          break;
        }
      }
    }
  }

  // Every page is free or belongs to one sequence, and none that a flying step names has changed
  // hands.
  void CheckBooks() {
    std::map<int32_t, SequenceId> owner;
    for (const auto& [id, live] : live_) {
      for (int32_t page : scheduler_.pages(id)) {
        ASSERT_TRUE(owner.emplace(page, id).second) << "page " << page << " has two owners";
      }
    }
    ASSERT_EQ(static_cast<int64_t>(owner.size()) + pool_.free_pages(), pool_.pages());
    for (const Flying& flying : flying_) {
      for (size_t i = 0; i < flying.pages.size(); ++i) {
        for (int32_t page : flying.pages[i]) {
          ASSERT_EQ(owner[page], flying.step.pieces[i].sequence) << "page " << page;
        }
      }
    }
    ASSERT_EQ(scheduler_.steps_out(), static_cast<int64_t>(flying_.size()));
    ASSERT_EQ(scheduler_.waiting() + scheduler_.running(), static_cast<int64_t>(live_.size()));
  }

  // Nothing new comes and all rows land: everyone ends, within a number of steps that rules out
  // starving.
  void Drain() {
    int64_t bound = 1000;
    for (const auto& [id, live] : live_) bound += 40 * live.needs.max_tokens;
    for (int64_t i = 0; !live_.empty() && !::testing::Test::HasFailure(); ++i) {
      ASSERT_LT(i, bound) << live_.size() << " sequences starve";
      for (auto& [id, live] : live_) {
        if (live.needs.rows_ready < live.needs.tokens) {
          live.needs.rows_ready = live.needs.tokens;
          scheduler_.RowsReady(id, live.needs.tokens);
        }
      }
      const size_t before = flying_.size();
      PlanOne();
      if (flying_.size() == before) {
        ASSERT_TRUE(!flying_.empty() || live_.empty()) << "nothing to do, and not everyone ended";
        CommitOne();
      }
      CheckBooks();
    }
    while (!flying_.empty()) CommitOne();
    if (!::testing::Test::HasFailure()) {
      EXPECT_EQ(pool_.free_pages(), pool_.pages());
    }
  }

  std::mt19937 random_;
  const SchedulerOptions options_;
  PagePool pool_;
  Scheduler scheduler_;
  std::map<SequenceId, Live> live_;
  std::deque<Flying> flying_;
  std::set<SequenceId> finishing_;
  std::set<SequenceId> prefilled_;
  SequenceId next_id_ = 1;
  int64_t last_step_ = 0;
  int preempted_ = 0, done_ = 0, cancelled_ = 0, refused_ = 0;
};

TEST(SchedulerSimulationTest, HoldsItsPromisesUnderRandomEvents) {
  int preempted = 0, done = 0, cancelled = 0, refused = 0;
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    Simulation simulation(seed);
    simulation.Run(2000);
    if (HasFailure()) return;
    preempted += simulation.preempted();
    done += simulation.done();
    cancelled += simulation.cancelled();
    refused += simulation.refused();
  }
  // The events were of every kind.
  EXPECT_GT(preempted, 500);
  EXPECT_GT(done, 2000);
  EXPECT_GT(cancelled, 500);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace minicpmv
