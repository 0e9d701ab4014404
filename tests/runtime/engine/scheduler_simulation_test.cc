// Thousands of random events on schedulers of every depth over small pools; what must hold is
// checked after each of them. Sequences continue a few talks, so that they find each other's pages;
// some only prefill, and their pages are read for a while; some are landings. Preempted sequences
// come again with the tokens they had, as a router would send them.
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

// What two sequences of one talk have in common: all tokens as far as both go.
constexpr int kTalks = 6;
const std::vector<PageKey>& KeysOf(int talk) {
  static const auto& keys = *new std::vector<std::vector<PageKey>>([] {
    std::vector<std::vector<PageKey>> all;
    for (int t = 0; t < kTalks; ++t) {
      all.push_back(PageKeysOf(PrefixContext(), std::vector<int32_t>(2000, t), {}));
    }
    return all;
  }());
  return keys[talk];
}

class Simulation {
 public:
  explicit Simulation(uint32_t seed)
      : random_(seed),
        serves_(random_() % 2 == 0),
        options_(OptionsOf(random_, serves_)),
        pool_(2 + random_() % 40),
        scheduler_(options_, pool_),
        content_(pool_.pages()) {}

  void Run(int events) {
    for (int i = 0; i < events && !::testing::Test::HasFailure(); ++i) {
      const int what = static_cast<int>(random_() % 120);
      if (what >= 110) {
        ReadOne();
      } else if (what >= 100) {
        if (random_() % 4 == 0) SettleOne();
      } else if (what < 15 && live_.size() < 24) {
        AddNew();
      } else if (what < 18) {
        // Few live where nobody waits.
        if (!serves_ || random_() % 8 == 0) CancelOne();
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
  int without_room() const { return without_room_; }
  int landed() const { return landed_; }
  int adopted() const { return adopted_; }
  int recalled() const { return recalled_; }
  int64_t held() const { return held_; }
  int ended_by_reader() const { return ended_by_reader_; }

 private:
  struct Live {
    Scheduler::Sequence needs;
    int talk = 0;
    SequenceId first_id;  // its age
    int64_t issued = 0;
    int64_t committed = 0;
    int64_t known = 0;
    int64_t held = 0;
    int64_t out = 0;                                // steps that name it
    std::vector<std::pair<int64_t, int32_t>> read;  // entries of its table, and the pages in them
    bool was_read = false;
    bool lent = false;
    bool recalled = false;
    bool cancelled = false;
    int64_t prompt() const { return needs.tokens - needs.lands; }
  };
  struct Flying {
    Scheduler::Step step;
    std::vector<std::vector<int32_t>> pages;  // of each piece
  };

  static SchedulerOptions OptionsOf(std::mt19937& random, bool serves) {
    SchedulerOptions options;
    options.depth = 1 + random() % 4;
    options.chunk = std::vector<int64_t>{1, 5, 16, 17, 64}[random() % 5];
    options.max_rows = options.chunk + random() % 8;
    options.max_logit_rows = 1 + random() % 6;
    options.headroom = std::vector<int64_t>{0, 3, 40, 256}[random() % (serves ? 2 : 4)];
    if (random() % 2 == 0) options.step_budget = absl::Milliseconds(1 + random() % 60);
    return options;
  }

  void AddNew() {
    Scheduler::Sequence needs;
    const bool is_long = random_() % (serves_ ? 16 : 4) == 0;
    needs.tokens = 1 + random_() % (is_long ? 16 * pool_.pages() : 40);
    needs.rows_ready = random_() % 2 ? needs.tokens : random_() % needs.tokens;
    needs.samples = random_() % 5 != 0;
    needs.max_tokens = needs.tokens + 1 + random_() % 200;
    const int talk = static_cast<int>(random_() % kTalks);
    const bool waits = !serves_ && random_() % 6 != 0;
    needs.waits = waits;
    needs.lands = needs.samples && !waits;
    if (random_() % 8 == 0 && !needs.lands) needs.logits_from = needs.tokens / 2;
    Add(needs, -1, talk);
  }

  void Add(Scheduler::Sequence needs, SequenceId again, int talk) {
    const SequenceId id = next_id_++;
    needs.again = again;
    needs.keys = KeysOf(talk);
    needs.keys.resize(random_() % 4 == 0 ? 0 : (needs.tokens - 1) / kPageSize);
    const int64_t most = needs.samples ? needs.max_tokens - 1 : needs.tokens;
    const absl::Status status = scheduler_.Add(id, needs);
    if (PagesFor(most) > pool_.pages()) {
      EXPECT_TRUE(absl::IsResourceExhausted(status));
      ++refused_;
      return;
    }
    if (!status.ok()) {
      ASSERT_TRUE(absl::IsResourceExhausted(status) && !needs.waits) << status;
      ++without_room_;
      TakeAdmissions();
      return;
    }
    Live& live = live_[id];
    live.needs = needs;
    live.talk = talk;
    live.first_id = again < 0 ? id : again;
    live.known = needs.tokens;
    live.lent = needs.lands;
    TakeAdmissions();
  }

  void TakeAdmissions() {
    for (const auto& [id, held] : scheduler_.TakeAdmissions()) {
      Live& live = live_.at(id);
      ASSERT_LE(held, static_cast<int64_t>(live.needs.keys.size()) * kPageSize);
      live.held = live.issued = live.committed = held;
      held_ += held;
      // Preempted at once: its pages are gone already.
      const int64_t known = scheduler_.running() + scheduler_.waiting();
      if (known < static_cast<int64_t>(live_.size())) continue;
      const auto pages = scheduler_.pages(id);
      for (int64_t i = 0; i < held / kPageSize; ++i) {
        ASSERT_EQ(content_[pages[i]], KeysOf(live.talk)[i]) << "not what was looked for";
      }
      if (held > live.needs.rows_ready) live.needs.rows_ready = held;
    }
  }

  // Whoever writes a landing's pages is done, or gives up, or never begins.
  void SettleOne() {
    SequenceId id = 0;
    Live* live = AnyLive(&id);
    if (live != nullptr && live->lent) Settle(id, *live);
  }

  void Settle(SequenceId id, Live& live) {
    live.lent = false;
    const int what = live.recalled ? static_cast<int>(random_() % 4) : random_() % 3 + 1;
    if (what == 0 || random_() % 16 == 0) {
      if (!live.recalled) live.cancelled = true;
      scheduler_.Cancel(id);
    } else if (what == 1) {
      ++adopted_;
      scheduler_.Compute(id);
    } else {
      ++landed_;
      Fill(id, live, live.held, live.prompt());
      live.issued = live.committed = live.prompt();
      scheduler_.Landed(id);
    }
    TakeEndings();
  }

  // The pages that positions [first, end) complete hold what they should from now on.
  void Fill(SequenceId id, const Live& live, int64_t first, int64_t end) {
    const auto pages = scheduler_.pages(id);
    for (int64_t i = first / kPageSize; i < end / kPageSize; ++i) {
      content_[pages[i]] = KeysOf(live.talk)[i];
    }
  }

  // Somebody who read pages of a prefill is done.
  void ReadOne() {
    SequenceId id = 0;
    Live* live = AnyLive(&id);
    if (live == nullptr || live->read.empty()) return;
    live->read.pop_back();
    const size_t before = live_.size();
    scheduler_.Release(id, 1);
    TakeEndings();
    ended_by_reader_ += live_.size() < before;
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
      live->cancelled = !(live->lent && live->recalled);
      live->lent = false;
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
    for (const auto& [id, live] : live_) {
      decoding += live.needs.lands ? !live.lent && live.committed >= live.prompt()
                                   : live.known > live.needs.tokens;
    }
    std::optional<Scheduler::Step> step = scheduler_.Plan();
    TakeAdmissions();
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
      ASSERT_FALSE(live.cancelled || live.lent);
      ASSERT_GT(piece.count, 0);
      ASSERT_LE(piece.count, options_.chunk);
      ASSERT_EQ(piece.first, live.issued) << "a position left out or computed twice";
      ASSERT_LE(piece.first + piece.count, live.known) << "a token nobody chose";
      const bool decode = piece.first >= live.prompt() && live.needs.samples;
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
      for (int64_t i = piece.first / kPageSize; i < used; ++i) {
        ASSERT_EQ(pool_.references(pages[i]), 1) << "others would see it change";
        content_[pages[i]] = PageKey();
      }
      if (live.needs.samples || random_() % 2 == 0) continue;
      const int64_t entry = random_() % used;
      live.read.emplace_back(entry, pages[entry]);
      live.was_read = true;
      scheduler_.Hold(piece.sequence, 1);
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
      live.committed += piece.count;
      Fill(piece.sequence, live, piece.first, live.committed);
      if (random_() % 4 != 0) {
        scheduler_.Remember(
            piece.sequence,
            absl::MakeConstSpan(KeysOf(live.talk)).first(live.committed / kPageSize));
      }
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
    for (SequenceId id : scheduler_.TakeRecalls()) {
      ASSERT_TRUE(live_.at(id).lent);
      ASSERT_FALSE(std::exchange(live_.at(id).recalled, true));
      ++recalled_;
    }
    for (const Scheduler::Ending& ending : scheduler_.TakeEndings()) {
      ASSERT_TRUE(live_.contains(ending.sequence)) << ending.sequence << " ended twice";
      const Live live = live_[ending.sequence];
      ASSERT_EQ(live.out, 0) << "a step still names it";
      ASSERT_TRUE(live.read.empty()) << "its pages are still read";
      ASSERT_FALSE(live.lent) << "its pages are still written";
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
          // Somebody older is the reason, and still there unless others had to be waited for.
          ASSERT_TRUE(live.recalled || live.was_read ||
                      std::any_of(live_.begin(), live_.end(), [&](const auto& other) {
                        return std::pair(other.second.first_id, other.first) <
                               std::pair(live.first_id, ending.sequence);
                      }));
          ++preempted_;
          Scheduler::Sequence again = live.needs;
          again.tokens = live.known;
          again.rows_ready = again.tokens;
          if (!serves_) {
            again.waits = true;
            again.lands = false;
          }
          Add(again, live.first_id, live.talk);
          break;
        }
      }
    }
  }

  // Every page is free, or idle, or belongs to sequences: to several only if all took it over or
  // remembered it. None that a flying step or a reader names has changed hands.
  void CheckBooks() {
    std::map<int32_t, std::set<SequenceId>> owners;
    int64_t landing_pages = 0;
    for (const auto& [id, live] : live_) {
      const auto pages = scheduler_.pages(id);
      for (int32_t page : pages) ASSERT_TRUE(owners[page].insert(id).second) << "page " << page;
      for (const auto& [entry, page] : live.read) ASSERT_EQ(pages[entry], page);
      if (live.lent) landing_pages += static_cast<int64_t>(pages.size()) - live.held / kPageSize;
    }
    ASSERT_EQ(static_cast<int64_t>(owners.size()) + pool_.free_pages() + pool_.idle_pages(),
              pool_.pages());
    ASSERT_EQ(scheduler_.landing_pages(), landing_pages);
    for (const auto& [page, by] : owners) {
      ASSERT_TRUE(by.size() == 1 || content_[page] != PageKey()) << "page " << page;
    }
    for (const Flying& flying : flying_) {
      for (size_t i = 0; i < flying.pages.size(); ++i) {
        for (int32_t page : flying.pages[i]) {
          ASSERT_TRUE(owners[page].contains(flying.step.pieces[i].sequence)) << "page " << page;
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
      std::vector<SequenceId> lent;
      for (auto& [id, live] : live_) {
        if (live.needs.rows_ready < live.needs.tokens) {
          live.needs.rows_ready = live.needs.tokens;
          scheduler_.RowsReady(id, live.needs.tokens);
        }
        if (live.lent) lent.push_back(id);
      }
      for (SequenceId id : lent) Settle(id, live_.at(id));
      ReadOne();
      const size_t before = flying_.size();
      PlanOne();
      if (flying_.size() == before) {
        const bool is_read = std::any_of(live_.begin(), live_.end(),
                                         [](const auto& it) { return !it.second.read.empty(); });
        ASSERT_TRUE(!flying_.empty() || live_.empty() || is_read)
            << "nothing to do, and not everyone ended";
        CommitOne();
      }
      CheckBooks();
    }
    while (!flying_.empty()) CommitOne();
    if (!::testing::Test::HasFailure()) {
      EXPECT_EQ(pool_.free_pages() + pool_.idle_pages(), pool_.pages());
    }
  }

  std::mt19937 random_;
  const bool serves_;  // nobody waits here
  const SchedulerOptions options_;
  PagePool pool_;
  Scheduler scheduler_;
  std::vector<PageKey> content_;  // of each page that is full and was well computed
  std::map<SequenceId, Live> live_;
  std::deque<Flying> flying_;
  std::set<SequenceId> finishing_;
  std::set<SequenceId> prefilled_;
  SequenceId next_id_ = 1;
  int64_t last_step_ = 0;
  int preempted_ = 0, done_ = 0, cancelled_ = 0, refused_ = 0, without_room_ = 0;
  int landed_ = 0, adopted_ = 0, recalled_ = 0, ended_by_reader_ = 0;
  int64_t held_ = 0;
};

TEST(SchedulerSimulationTest, HoldsItsPromisesUnderRandomEvents) {
  int preempted = 0, done = 0, cancelled = 0, refused = 0, without_room = 0;
  int landed = 0, adopted = 0, recalled = 0, ended_by_reader = 0;
  int64_t held = 0;
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    Simulation simulation(seed);
    simulation.Run(2000);
    if (HasFailure()) return;
    preempted += simulation.preempted();
    done += simulation.done();
    cancelled += simulation.cancelled();
    refused += simulation.refused();
    without_room += simulation.without_room();
    landed += simulation.landed();
    adopted += simulation.adopted();
    recalled += simulation.recalled();
    ended_by_reader += simulation.ended_by_reader();
    held += simulation.held();
  }
  // The events were of every kind.
  EXPECT_GT(preempted, 500);
  EXPECT_GT(done, 2000);
  EXPECT_GT(cancelled, 500);
  EXPECT_GT(refused, 100);
  EXPECT_GT(without_room, 500);
  EXPECT_GT(landed, 200);
  EXPECT_GT(adopted, 50);
  EXPECT_GT(recalled, 20);
  EXPECT_GT(ended_by_reader, 100);
  EXPECT_GT(held, 10000);
}

}  // namespace
}  // namespace minicpmv
