#include "runtime/engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Outcome = Scheduler::Outcome;

// "3:[0,17)+1!" is positions 0..16 of sequence 3, one row of logits, sampled from.
std::string Text(const Scheduler::Piece& piece) {
  return absl::StrCat(piece.sequence, ":[", piece.first, ",", piece.first + piece.count, ")",
                      piece.logits > 0 ? absl::StrCat("+", piece.logits) : "",
                      piece.samples ? "!" : "");
}

std::vector<std::string> Text(const std::optional<Scheduler::Step>& step) {
  std::vector<std::string> pieces;
  if (!step) return {"nothing"};
  for (const Scheduler::Piece& piece : step->pieces) pieces.push_back(Text(piece));
  return pieces;
}

std::vector<std::string> Text(const std::vector<Scheduler::Ending>& endings) {
  std::vector<std::string> texts;
  for (const auto& ending : endings) {
    const char* end = ending.end == Scheduler::End::kDone        ? "done"
                      : ending.end == Scheduler::End::kCancelled ? "cancelled"
                                                                 : "preempted";
    texts.push_back(absl::StrCat(ending.sequence, " ", end));
  }
  return texts;
}

Scheduler::Sequence Prompt(int64_t tokens, int64_t max_tokens) {
  Scheduler::Sequence sequence;
  sequence.tokens = sequence.rows_ready = tokens;
  sequence.max_tokens = max_tokens;
  return sequence;
}

class SchedulerTest : public ::testing::Test {
 protected:
  SchedulerTest() {
    options_.chunk = 32;
    options_.max_rows = 64;
    options_.headroom = 16;
  }
  void Start(int64_t pages) {
    pool_.emplace(pages);
    scheduler_.emplace(options_, *pool_);
  }
  // Plans and remembers the step.
  std::vector<std::string> Plan() {
    std::optional<Scheduler::Step> step = scheduler_->Plan();
    if (step) out_.push_back(*step);
    return Text(step);
  }
  // Books the oldest step; what samples goes on, except the sequence that ends here.
  void Commit(SequenceId ends = -1, absl::Duration duration = absl::Milliseconds(1)) {
    std::vector<Outcome> outcomes;
    for (const auto& piece : out_.front().pieces) {
      outcomes.push_back(!piece.samples           ? Outcome::kNothing
                         : piece.sequence == ends ? Outcome::kEnd
                                                  : Outcome::kToken);
    }
    scheduler_->Commit(out_.front().id, outcomes, duration);
    out_.pop_front();
  }
  std::vector<std::string> Endings() { return Text(scheduler_->TakeEndings()); }

  SchedulerOptions options_;
  std::optional<PagePool> pool_;
  std::optional<Scheduler> scheduler_;
  std::deque<Scheduler::Step> out_;
};

TEST_F(SchedulerTest, ComputesAPromptInChunksAndThenOneRowAtATime) {
  Start(100);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(70, 100)).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,32)"));
  EXPECT_THAT(Plan(), ElementsAre("nothing"));  // one step deep
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[32,64)"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[64,70)+1!"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[70,71)+1!"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[71,72)+1!"));
  Commit(/*ends=*/1);
  EXPECT_THAT(Endings(), ElementsAre("1 done"));
  EXPECT_THAT(Plan(), ElementsAre("nothing"));
  EXPECT_EQ(pool_->free_pages(), 100);
}

TEST_F(SchedulerTest, ChunksOfOnePromptFlyTogetherButADecodeWaitsForItsToken) {
  options_.depth = 4;
  Start(100);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(70, 100)).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,32)"));
  EXPECT_THAT(Plan(), ElementsAre("1:[32,64)"));
  EXPECT_THAT(Plan(), ElementsAre("1:[64,70)+1!"));
  EXPECT_THAT(Plan(), ElementsAre("nothing"));
  Commit();
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("nothing"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[70,71)+1!"));
  EXPECT_THAT(Plan(), ElementsAre("nothing"));
  Commit(1);
  EXPECT_THAT(Endings(), ElementsAre("1 done"));
}

TEST_F(SchedulerTest, DecodesComeBeforePromptsAndEqualPromptsByAge) {
  Start(100);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(5, 100)).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,5)+1!"));
  ASSERT_TRUE(scheduler_->Add(2, Prompt(40, 100)).ok());
  ASSERT_TRUE(scheduler_->Add(3, Prompt(40, 100)).ok());
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[5,6)+1!", "2:[0,32)", "3:[0,31)"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[6,7)+1!", "2:[32,40)+1!", "3:[31,40)+1!"));
  for (SequenceId id : {1, 2, 3}) scheduler_->Cancel(id);
  Commit();
  EXPECT_THAT(Endings(), ElementsAre("1 cancelled", "2 cancelled", "3 cancelled"));
}

TEST_F(SchedulerTest, APipelineGetsAShareOfTheDecodesInEachStep) {
  options_.depth = 2;
  Start(100);
  for (SequenceId id : {1, 2, 3}) ASSERT_TRUE(scheduler_->Add(id, Prompt(4, 100)).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,4)+1!", "2:[0,4)+1!", "3:[0,4)+1!"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[4,5)+1!", "2:[4,5)+1!"));
  EXPECT_THAT(Plan(), ElementsAre("3:[4,5)+1!"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[5,6)+1!", "2:[5,6)+1!"));
  for (SequenceId id : {1, 2, 3}) scheduler_->Cancel(id);
  Commit();
  Commit();
}

TEST_F(SchedulerTest, DecodesThatWaitedLongestGoFirst) {
  options_.max_logit_rows = 2;
  Start(100);
  for (SequenceId id : {1, 2, 3}) ASSERT_TRUE(scheduler_->Add(id, Prompt(4, 100)).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,4)+1!", "2:[0,4)+1!", "3:[0,3)"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[4,5)+1!", "2:[4,5)+1!"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[5,6)+1!", "2:[5,6)+1!"));
  scheduler_->Cancel(2);
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[6,7)+1!", "3:[3,4)+1!"));
  ASSERT_TRUE(scheduler_->Add(4, Prompt(4, 100)).ok());
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("3:[4,5)+1!", "1:[7,8)+1!", "4:[0,3)"));
  for (SequenceId id : {1, 3, 4}) scheduler_->Cancel(id);
  Commit();
}

TEST_F(SchedulerTest, APrefillOnlySequenceEndsWithoutLogits) {
  Start(100);
  Scheduler::Sequence sequence = Prompt(40, 40);
  sequence.samples = false;
  ASSERT_TRUE(scheduler_->Add(1, sequence).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,32)"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[32,40)"));
  EXPECT_THAT(Endings(), IsEmpty());
  Commit();
  EXPECT_THAT(Endings(), ElementsAre("1 done"));
  EXPECT_EQ(pool_->free_pages(), 100);
}

TEST_F(SchedulerTest, ComputesOnlyWhatIsReady) {
  Start(100);
  Scheduler::Sequence sequence = Prompt(30, 60);
  sequence.rows_ready = 7;
  ASSERT_TRUE(scheduler_->Add(1, sequence).ok());
  ASSERT_TRUE(scheduler_->Add(2, Prompt(3, 60)).ok());
  EXPECT_THAT(Plan(), ElementsAre("2:[0,3)+1!", "1:[0,7)"));
  Commit(2);
  EXPECT_THAT(Plan(), ElementsAre("nothing"));
  scheduler_->RowsReady(1, 20);
  EXPECT_THAT(Plan(), ElementsAre("1:[7,20)"));
  Commit();
  scheduler_->RowsReady(1, 30);
  EXPECT_THAT(Plan(), ElementsAre("1:[20,30)+1!"));
  Commit(1);
  scheduler_->RowsReady(1, 30);  // it has ended: passed over
}

TEST_F(SchedulerTest, ShowsTheLogitsThatWereAskedFor) {
  options_.max_logit_rows = 5;
  Start(100);
  Scheduler::Sequence sequence = Prompt(40, 60);
  sequence.logits_from = 30;
  ASSERT_TRUE(scheduler_->Add(1, sequence).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,32)+2"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[32,37)+5"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[37,40)+3!"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[40,41)+1!"));
  Commit(1);
}

TEST_F(SchedulerTest, ACancelledSequenceKeepsItsPagesUntilItsLastStepEnds) {
  options_.depth = 2;
  Start(10);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(64, 100)).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,32)"));
  EXPECT_THAT(Plan(), ElementsAre("1:[32,64)+1!"));
  scheduler_->Cancel(1);
  EXPECT_THAT(Endings(), IsEmpty());
  Commit();
  EXPECT_THAT(Endings(), IsEmpty());
  EXPECT_EQ(pool_->free_pages(), 5);
  Commit();
  EXPECT_THAT(Endings(), ElementsAre("1 cancelled"));
  EXPECT_EQ(pool_->free_pages(), 10);
  scheduler_->Cancel(1);  // again: passed over
  EXPECT_THAT(Endings(), IsEmpty());
}

TEST_F(SchedulerTest, WhoWaitsHoldsNothingAndNoneOvertakes) {
  Start(10);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(100, 117)).ok());  // 8 pages
  ASSERT_TRUE(scheduler_->Add(2, Prompt(100, 117)).ok());
  ASSERT_TRUE(scheduler_->Add(3, Prompt(1, 2)).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,32)"));
  EXPECT_EQ(scheduler_->running(), 1);
  EXPECT_EQ(scheduler_->waiting(), 2);
  EXPECT_EQ(pool_->free_pages(), 2);
  scheduler_->Cancel(1);
  scheduler_->Cancel(2);
  Commit();
  EXPECT_THAT(Endings(), ElementsAre("2 cancelled", "1 cancelled"));
  EXPECT_THAT(Plan(), ElementsAre("3:[0,1)+1!"));
  Commit(3);
}

TEST_F(SchedulerTest, SaysWhatCanNeverFit) {
  Start(4);
  EXPECT_TRUE(scheduler_->Add(1, Prompt(10, 65)).ok());  // the last token needs no place
  const absl::Status status = scheduler_->Add(2, Prompt(10, 66));
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("5 pages"));
  EXPECT_TRUE(absl::IsResourceExhausted(scheduler_->Add(3, Prompt(10, int64_t{1} << 62))));
  scheduler_->Cancel(1);
}

TEST_F(SchedulerTest, TheYoungestGoesWhenThePoolIsDryAndTheOldestFinishes) {
  options_.headroom = 0;
  Start(5);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(30, 81)).ok());  // 2 pages, up to 5
  ASSERT_TRUE(scheduler_->Add(2, Prompt(30, 81)).ok());
  std::vector<std::string> endings;
  int64_t steps = 0;
  while (Plan() != std::vector<std::string>{"nothing"}) {
    const bool last = ++steps == 51;
    Commit(last ? 1 : -1);
    for (const std::string& ending : Endings()) endings.push_back(ending);
    ASSERT_LT(steps, 100);
    if (last) break;
  }
  EXPECT_THAT(endings, ElementsAre("2 preempted", "1 done"));
  EXPECT_EQ(pool_->free_pages(), 5);
}

TEST_F(SchedulerTest, APreemptedSequenceKeepsItsPlaceInLine) {
  options_.headroom = 0;
  Start(4);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(60, 65)).ok());
  ASSERT_TRUE(scheduler_->Add(4, Prompt(10, 20)).ok());
  ASSERT_TRUE(scheduler_->Add(5, Prompt(12, 20)).ok());
  Scheduler::Sequence again = Prompt(11, 20);
  again.again = 2;
  ASSERT_TRUE(scheduler_->Add(6, again).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,32)"));
  scheduler_->Cancel(1);
  Commit();
  // Sequence 5 has to wait: the two that run are left a page each to grow into.
  EXPECT_THAT(Plan(), ElementsAre("4:[0,10)+1!", "6:[0,11)+1!"));
  EXPECT_EQ(pool_->free_pages(), 2);
  for (SequenceId id : {4, 5, 6}) scheduler_->Cancel(id);
  Commit();
}

TEST_F(SchedulerTest, PromptsKeepWithinTheStepBudgetWhileOthersDecode) {
  options_.chunk = options_.max_rows = 512;
  options_.step_budget = absl::Milliseconds(100);
  Start(200);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(512, 1000)).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,512)+1!"));  // nobody decodes: the whole chunk
  Commit(-1, absl::Milliseconds(520));
  for (int i = 0; i < 5; ++i) {
    Plan();
    Commit(-1, absl::Milliseconds(10));
  }
  ASSERT_TRUE(scheduler_->Add(2, Prompt(512, 1000)).ok());
  Plan();
  ASSERT_EQ(out_.back().pieces.size(), 2u);
  const int64_t rows = out_.back().pieces[1].count;
  EXPECT_GT(rows, 60);  // about a millisecond a row
  EXPECT_LT(rows, 110);
  Commit();
  scheduler_->Cancel(1);
  scheduler_->Cancel(2);
}

TEST_F(SchedulerTest, AShortPromptNeedNotWaitForALongOneNorALongOneWithoutEnd) {
  options_.chunk = options_.max_rows = 16;
  Start(1000);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(400, 500)).ok());
  Plan();
  Commit();
  ASSERT_TRUE(scheduler_->Add(2, Prompt(20, 30)).ok());
  EXPECT_THAT(Plan(), ElementsAre("2:[0,16)"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("2:[16,20)+1!", "1:[16,28)"));
  Commit(/*ends=*/2);
  // From now on a new short one comes with each step.
  int steps = 0;
  for (SequenceId id = 3; steps < 200; ++id, ++steps) {
    Scheduler::Sequence prompt = Prompt(16, 17);
    prompt.samples = false;
    ASSERT_TRUE(scheduler_->Add(id, prompt).ok());
    const std::vector<std::string> pieces = Plan();
    const bool is_over = std::any_of(pieces.begin(), pieces.end(), [](const std::string& piece) {
      return absl::StartsWith(piece, "1:") && absl::EndsWith(piece, "!");
    });
    Commit();
    if (is_over) break;
  }
  EXPECT_LT(steps, 200) << "the long one never ended";
  for (SequenceId id = 1; id < 300; ++id) scheduler_->Cancel(id);
}

TEST_F(SchedulerTest, WhileNobodyDecodesAStepTakesTwiceItsBudget) {
  options_.chunk = options_.max_rows = 512;
  options_.step_budget = absl::Milliseconds(100);
  Start(500);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(5000, 5001)).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,512)"));  // nothing is known of what rows cost
  int64_t rows = 512;
  for (int i = 0; i < 10; ++i) {
    Commit(-1, absl::Milliseconds(rows));
    Plan();
    rows = out_.back().pieces[0].count;
  }
  EXPECT_NEAR(static_cast<double>(rows), 200, 20);
  Commit();
  scheduler_->Cancel(1);
}

TEST_F(SchedulerTest, APromptAdvancesThoughDecodesAloneFillTheBudget) {
  options_.step_budget = absl::Milliseconds(1);
  Start(100);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(10, 100)).ok());
  Plan();
  Commit(-1, absl::Seconds(1));
  ASSERT_TRUE(scheduler_->Add(2, Prompt(40, 100)).ok());
  ASSERT_TRUE(scheduler_->Add(3, Prompt(40, 100)).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[10,11)+1!", "2:[0,16)"));
  Commit(-1, absl::Seconds(1));
  for (SequenceId id : {1, 2, 3}) scheduler_->Cancel(id);
}

Scheduler::Sequence Landing(int64_t tokens, int64_t max_tokens) {
  Scheduler::Sequence sequence = Prompt(tokens, max_tokens);
  sequence.waits = false;
  sequence.lands = true;
  return sequence;
}

std::vector<std::string> Text(const std::vector<Scheduler::Admission>& admissions) {
  std::vector<std::string> texts;
  for (const auto& [id, held] : admissions) texts.push_back(absl::StrCat(id, " holds ", held));
  return texts;
}

TEST_F(SchedulerTest, ALandingDecodesItsLastTokenFirst) {
  Start(100);
  ASSERT_TRUE(scheduler_->Add(1, Landing(40, 42)).ok());
  EXPECT_THAT(Text(scheduler_->TakeAdmissions()), ElementsAre("1 holds 0"));
  EXPECT_THAT(Plan(), ElementsAre("nothing"));
  EXPECT_EQ(scheduler_->landing_pages(), 3);
  scheduler_->Landed(1);
  EXPECT_EQ(scheduler_->landing_pages(), 0);
  EXPECT_THAT(Plan(), ElementsAre("1:[39,40)+1!"));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[40,41)+1!"));
  Commit(1);
  EXPECT_THAT(Endings(), ElementsAre("1 done"));
}

TEST_F(SchedulerTest, AnAdoptedLandingComputesAllButTheLastTokenInChunks) {
  options_.depth = 3;
  Start(100);
  ASSERT_TRUE(scheduler_->Add(1, Landing(40, 42)).ok());
  scheduler_->Compute(1);
  EXPECT_THAT(Plan(), ElementsAre("1:[0,32)"));
  EXPECT_THAT(Plan(), ElementsAre("1:[32,39)"));
  EXPECT_THAT(Plan(), ElementsAre("nothing"));
  Commit();
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[39,40)+1!"));
  Commit(1);
  EXPECT_THAT(Endings(), ElementsAre("1 done"));
}

TEST_F(SchedulerTest, WhatDoesNotWaitIsLetInAtOnceOrNotAtAllAndOvertakesNobody) {
  Start(8);
  ASSERT_TRUE(scheduler_->Add(1, Landing(40, 80)).ok());  // and the headroom: four pages
  EXPECT_TRUE(absl::IsResourceExhausted(scheduler_->Add(2, Landing(60, 80))));
  ASSERT_TRUE(scheduler_->Add(3, Prompt(60, 80)).ok());
  EXPECT_EQ(scheduler_->waiting(), 1);
  EXPECT_TRUE(absl::IsResourceExhausted(scheduler_->Add(4, Landing(2, 4)))) << "another waits";
  scheduler_->Cancel(1);
  EXPECT_THAT(Plan(), ElementsAre("3:[0,32)"));
  scheduler_->Cancel(3);
  Commit();
  EXPECT_EQ(pool_->free_pages(), 8);
}

TEST_F(SchedulerTest, APrefillLeavesNoPageToGrowInto) {
  Start(4);
  Scheduler::Sequence prefill = Prompt(32, 0);
  prefill.samples = prefill.waits = false;
  ASSERT_TRUE(scheduler_->Add(1, prefill).ok());
  ASSERT_TRUE(scheduler_->Add(2, prefill).ok());
  EXPECT_EQ(pool_->free_pages(), 0);
  scheduler_->Cancel(1);
  scheduler_->Cancel(2);
}

TEST_F(SchedulerTest, PagesThatAreReadStayAndTheSequenceWithThem) {
  Start(4);
  Scheduler::Sequence prefill = Prompt(32, 0);
  prefill.samples = prefill.waits = false;
  ASSERT_TRUE(scheduler_->Add(1, prefill).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,32)"));
  scheduler_->Hold(1, 2);
  Commit();
  EXPECT_THAT(Endings(), IsEmpty());
  scheduler_->Release(1, 1);
  EXPECT_EQ(pool_->free_pages(), 2);
  scheduler_->Release(1, 1);
  EXPECT_THAT(Endings(), ElementsAre("1 done"));
  EXPECT_EQ(pool_->free_pages(), 4);
}

TEST_F(SchedulerTest, ALandingGivesWayToAnOlderSequenceOnlyOnceItIsNotWritten) {
  options_.headroom = 0;
  Start(4);
  ASSERT_TRUE(scheduler_->Add(1, Prompt(32, 60)).ok());
  Plan();
  Commit();
  ASSERT_TRUE(scheduler_->Add(2, Landing(16, 20)).ok());
  for (int i = 0; i < 16; ++i) {
    EXPECT_THAT(Plan(), ElementsAre(absl::StrCat("1:[", 32 + i, ",", 33 + i, ")+1!")));
    Commit();
  }
  EXPECT_EQ(pool_->free_pages(), 0);
  EXPECT_THAT(Plan(), ElementsAre("nothing"));
  EXPECT_THAT(scheduler_->TakeRecalls(), ElementsAre(2));
  EXPECT_THAT(Plan(), ElementsAre("nothing"));
  EXPECT_THAT(scheduler_->TakeRecalls(), IsEmpty());
  scheduler_->Cancel(2);
  EXPECT_THAT(Endings(), ElementsAre("2 preempted"));
  EXPECT_THAT(Plan(), ElementsAre("1:[48,49)+1!"));
  scheduler_->Cancel(1);
  Commit();
}

TEST_F(SchedulerTest, TakesOverWhatIsRememberedAndGivesItUpBeforeAnybodyGoes) {
  options_.headroom = 0;
  Start(4);
  const std::vector<PageKey> keys = PageKeysOf(PrefixContext(), std::vector<int32_t>(48, 7), {});
  Scheduler::Sequence prompt = Prompt(40, 42);
  prompt.keys = {keys[0], keys[1]};
  ASSERT_TRUE(scheduler_->Add(1, prompt).ok());
  EXPECT_THAT(Plan(), ElementsAre("1:[0,32)"));
  scheduler_->Remember(1, absl::MakeConstSpan(keys).first(2));
  Commit();
  EXPECT_THAT(Plan(), ElementsAre("1:[32,40)+1!"));
  Commit(1);
  EXPECT_THAT(Endings(), ElementsAre("1 done"));
  EXPECT_EQ(pool_->idle_pages(), 2);
  scheduler_->TakeAdmissions();

  ASSERT_TRUE(scheduler_->Add(2, prompt).ok());
  EXPECT_THAT(Plan(), ElementsAre("2:[32,40)+1!"));
  EXPECT_THAT(Text(scheduler_->TakeAdmissions()), ElementsAre("2 holds 32"));
  EXPECT_EQ(pool_->idle_pages(), 0);
  Commit(2);
  Endings();

  ASSERT_TRUE(scheduler_->Add(3, Prompt(60, 62)).ok());
  EXPECT_THAT(Plan(), ElementsAre("3:[0,32)"));
  EXPECT_EQ(pool_->idle_pages(), 0);
  EXPECT_EQ(pool_->free_pages(), 0);
  scheduler_->Cancel(3);
  Commit();
  EXPECT_EQ(pool_->free_pages(), 4);
}

}  // namespace
}  // namespace minicpmv
