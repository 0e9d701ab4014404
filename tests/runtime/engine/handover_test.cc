// What prefills and landings promise, and a storm of cancels over two engines.
#include "runtime/engine/handover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <random>
#include <thread>

#include "runtime/device/cpu_device.h"
#include "runtime/engine/engine.h"
#include "tests/runtime/engine/fake_stage.h"
#include "tests/runtime/engine/handover_recorder.h"
#include "tests/runtime/engine/recorder.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int32_t> Prompt(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % FakeModel::kVocabulary);
  return tokens;
}

SequenceRequest Greedy(std::vector<int32_t> prompt, int64_t new_tokens) {
  SequenceRequest request;
  request.id = "test";
  request.prompt_tokens = static_cast<int64_t>(prompt.size());
  request.tokens = std::move(prompt);
  request.sampling.greedy = true;
  request.sampling.max_new_tokens = new_tokens;
  request.sampling.stop_ids = {FakeModel::kStop};
  return request;
}

// An engine over fake stages, one layer each.
class FakeEngine {
 public:
  explicit FakeEngine(int64_t pages, int stages = 2, int depth = 2, int64_t headroom = 256) {
    EngineOptions options;
    options.pages = pages;
    options.max_positions = 1000;
    options.scheduler.chunk = 20;
    options.scheduler.max_rows = 64;
    options.scheduler.max_logit_rows = 16;
    options.scheduler.depth = depth;
    options.scheduler.headroom = headroom;
    std::vector<std::unique_ptr<Stage>> row;
    for (int i = 0; i < stages; ++i) {
      row.push_back(std::make_unique<FakeStage>(pages, i, i == stages - 1, behaviour, i + 1));
    }
    PipelineOptions pipeline;
    pipeline.depth = depth;
    pipeline.max_rows = options.scheduler.max_rows;
    pipeline.max_logit_rows = options.scheduler.max_logit_rows;
    pipeline.hidden = FakeModel::kHidden;
    pipeline.vocabulary = FakeModel::kVocabulary;
    pipeline_ = Pipeline::Create(std::move(row), device_, pipeline).value();
    engine_.emplace(options, *pipeline_);
  }

  Engine* operator->() { return &*engine_; }
  Engine& operator*() { return *engine_; }
  void Destroy() { engine_.reset(); }

  FakeStage::Behaviour behaviour;

 private:
  CpuDevice device_{"cpu:0", 1};
  std::unique_ptr<Pipeline> pipeline_;
  std::optional<Engine> engine_;
};

// Nothing is used by anybody; what is remembered may be.
void ExpectRest(Engine& engine) {
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.free_pages + stats.cached_pages, stats.pages);
  EXPECT_EQ(stats.held_pages + stats.landing_pages, 0);
  EXPECT_EQ(stats.landings + stats.running + stats.waiting, 0);
}

TEST(PrefillTest, ShowsWholePagesUntilThePromptEnds) {
  FakeEngine engine(40);
  PrefillRecorder recorder;
  std::mutex mutex;
  std::vector<std::pair<int64_t, int64_t>> runs;  // of layer 1
  recorder.on_pages = [&](PageRun run, absl::AnyInvocable<void()> sent) {
    EXPECT_EQ(static_cast<int64_t>(run.pages.size()), PagesFor(run.count));
    if (run.layer == 1) {
      const std::lock_guard<std::mutex> lock(mutex);
      runs.emplace_back(run.first, run.count);
    }
    sent();
  };
  ASSERT_TRUE(engine->SubmitPrefill(PrefillOf(Greedy(Prompt(71, 1), 1), 16), recorder).ok());
  const Finish finish = recorder.Wait().value();
  EXPECT_LE(finish.started, finish.prompt_done);
  // In chunks of 20, from position 16 on.
  EXPECT_THAT(runs, ElementsAre(std::pair(16, 16), std::pair(32, 16), std::pair(48, 22)));
  EXPECT_THAT(recorder.computed(), ElementsAre(20, 40, 60, 70));
  EXPECT_EQ(recorder.held(), 0);
  ExpectRest(*engine);
  EXPECT_EQ(engine->stats().cached_pages, 4);
  EXPECT_EQ(engine->stats().new_tokens, 0);
}

TEST(PrefillTest, ShowsNothingThatTheLandingHolds) {
  FakeEngine engine(40);
  PrefillRecorder recorder;
  ASSERT_TRUE(engine->SubmitPrefill(PrefillOf(Greedy(Prompt(71, 1), 1), 70), recorder).ok());
  EXPECT_TRUE(recorder.Wait().ok());
  EXPECT_TRUE(recorder.HasShown(2, 70, 70));
}

TEST(PrefillTest, EndsWhenTheLastPagesHaveBeenSent) {
  FakeEngine engine(10);
  PrefillRecorder recorder;
  std::mutex mutex;
  std::deque<absl::AnyInvocable<void()>> unsent;
  recorder.on_pages = [&](PageRun, absl::AnyInvocable<void()> sent) {
    const std::lock_guard<std::mutex> lock(mutex);
    unsent.push_back(std::move(sent));
  };
  const auto id = engine->SubmitPrefill(PrefillOf(Greedy(Prompt(60, 1), 1), 0), recorder);
  recorder.WaitForRuns(2);
  engine->Cancel(*id);
  // A second one finds no room: the pages are still named.
  PrefillRecorder second;
  ASSERT_TRUE(engine->SubmitPrefill(PrefillOf(Greedy(Prompt(120, 2), 1), 0), second).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(second.Wait().status()));
  EXPECT_FALSE(recorder.has_ended());
  EXPECT_EQ(engine->stats().held_pages, 4);
  while (!recorder.has_ended()) {
    std::deque<absl::AnyInvocable<void()>> some;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      some.swap(unsent);
    }
    for (auto& sent : some) sent();
    std::this_thread::yield();
  }
  EXPECT_TRUE(absl::IsCancelled(recorder.Wait().status()));
  ExpectRest(*engine);
}

TEST(PrefillTest, TheEngineWaitsForWhatIsBeingSent) {
  FakeEngine engine(10);
  PrefillRecorder recorder;
  std::vector<std::thread> senders;
  std::mutex mutex;
  std::atomic<int> open = 0;
  recorder.on_pages = [&](PageRun, absl::AnyInvocable<void()> sent) {
    ++open;
    const std::lock_guard<std::mutex> lock(mutex);
    senders.emplace_back([&, sent = std::move(sent)]() mutable {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      --open;
      sent();
    });
  };
  ASSERT_TRUE(engine->SubmitPrefill(PrefillOf(Greedy(Prompt(60, 1), 1), 0), recorder).ok());
  recorder.WaitForRuns(1);
  engine.Destroy();
  EXPECT_EQ(open, 0);
  EXPECT_TRUE(recorder.has_ended());
  for (std::thread& sender : senders) sender.join();
}

TEST(PrefillTest, AFailedDeviceEndsItOnceAllIsSent) {
  FakeEngine engine(20);
  engine.behaviour.fails_at_step = 2;
  PrefillRecorder recorder;
  ASSERT_TRUE(engine->SubmitPrefill(PrefillOf(Greedy(Prompt(100, 1), 1), 0), recorder).ok());
  EXPECT_TRUE(absl::IsUnavailable(recorder.Wait().status()));
  ExpectRest(*engine);
}

TEST(PrefillTest, SaysWhatIsWrong) {
  FakeEngine engine(20);
  PrefillRecorder recorder;
  const PrefillRequest good = PrefillOf(Greedy(Prompt(40, 1), 1), 0);
  const auto words = [&](const PrefillRequest& request) {
    const absl::Status status = engine->SubmitPrefill(request, recorder).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  PrefillRequest request = good;
  request.tokens.resize(1);
  request.prompt_tokens = 1;
  EXPECT_THAT(words(request), HasSubstr("at least 2"));
  request = good;
  request.send_from = 17;
  EXPECT_THAT(words(request), HasSubstr("send_from is 17"));
  request.send_from = 48;
  EXPECT_THAT(words(request), HasSubstr("send_from is 48"));
  request.send_from = -16;
  EXPECT_THAT(words(request), HasSubstr("send_from is -16"));
  request = good;
  request.spans = {{20, 20, "x"}};
  EXPECT_THAT(words(request), HasSubstr("last token"));
  request = good;
  request.tokens[7] = 97;
  EXPECT_THAT(words(request), HasSubstr("tokens[7]"));
  request = good;
  request.prompt_tokens = 41;
  EXPECT_THAT(words(request), HasSubstr("prompt_tokens"));
  request = PrefillOf(Greedy(Prompt(400, 1), 1), 0);
  EXPECT_TRUE(absl::IsResourceExhausted(engine->SubmitPrefill(request, recorder).status()));
}

TEST(LandingTest, PlacesTakeWhatFitsAndNothingElse) {
  FakeEngine engine(40);
  LandingRecorder first;
  const auto id = engine->SubmitLanding(Greedy(Prompt(71, 1), 5), first);
  const LandingPages pages = first.WaitForPages().value();
  EXPECT_EQ(pages.tokens(), 70);
  EXPECT_EQ(pages.layers(), 2);
  EXPECT_EQ(pages.held_tokens(), 0);
  EXPECT_EQ(pages.Places(0, 0, 70)->size(), 5u);
  EXPECT_EQ(pages.Places(1, 64, 6)->size(), 1u);
  EXPECT_NE(pages.Places(0, 16, 16)->front().data, pages.Places(1, 16, 16)->front().data);
  for (const auto& [layer, from, count] :
       std::vector<std::tuple<int64_t, int64_t, int64_t>>{{-1, 0, 16},
                                                          {2, 0, 16},
                                                          {0, -16, 16},
                                                          {0, 0, 0},
                                                          {0, 0, 80},
                                                          {0, 80, 16},
                                                          {0, 16, INT64_MAX},
                                                          {0, INT64_MAX, 16}}) {
    EXPECT_TRUE(absl::IsOutOfRange(pages.Places(layer, from, count).status()))
        << layer << " " << from << " " << count;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(pages.Places(0, 8, 24).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(pages.Places(0, 0, 8).status()));
  EXPECT_EQ(engine->stats().landings, 1);
  engine->Cancel(*id);
  EXPECT_TRUE(absl::IsCancelled(first.Wait().status()));
  EXPECT_EQ(engine->stats().cached_pages, 0) << "nothing arrived";
  ExpectRest(*engine);
}

TEST(LandingTest, NothingIsWrittenOverPagesThatWereFound) {
  FakeEngine engine(40);
  Recorder before;
  SequenceRequest request = Greedy(Prompt(71, 1), 5);
  request.uses_prefixes = true;
  ASSERT_TRUE(engine->Submit(request, before).ok());
  ASSERT_TRUE(before.Wait().ok());
  LandingRecorder landing;
  const auto id = engine->SubmitLanding(request, landing);
  const LandingPages pages = landing.WaitForPages().value();
  EXPECT_EQ(pages.held_tokens(), 64);
  EXPECT_TRUE(absl::IsOutOfRange(pages.Places(0, 48, 16).status()));
  EXPECT_TRUE(pages.Places(0, 64, 6).ok());
  engine->Cancel(*id);
  EXPECT_TRUE(absl::IsCancelled(landing.Wait().status()));
}

TEST(LandingTest, IsRefusedAtOnceWhereThereIsNoRoom) {
  FakeEngine engine(12, 2, 2, /*headroom=*/16);
  LandingRecorder first;
  const auto id = engine->SubmitLanding(Greedy(Prompt(100, 1), 50), first);
  EXPECT_TRUE(first.WaitForPages().has_value());
  EXPECT_EQ(engine->stats().landing_pages, 8);
  LandingRecorder second;
  ASSERT_TRUE(engine->SubmitLanding(Greedy(Prompt(100, 2), 50), second).ok());
  const absl::Status status = second.Wait().status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_FALSE(second.WaitForPages().has_value());
  engine->Cancel(*id);
  EXPECT_TRUE(absl::IsCancelled(first.Wait().status()));
  ExpectRest(*engine);
}

TEST(LandingTest, RememberedPagesMakeRoom) {
  FakeEngine engine(12, 2, 2, /*headroom=*/16);
  for (int i = 0; i < 3; ++i) {
    LandingRecorder landing;
    PrefillRecorder prefill;
    const auto id = engine->SubmitLanding(Greedy(Prompt(100, i), 20), landing);
    engine->ComputeLanding(*id, prefill);
    EXPECT_TRUE(landing.Wait().ok()) << landing.Wait().status();
    EXPECT_TRUE(prefill.Wait().ok());
    EXPECT_EQ(landing.tokens(), FakeModel::Continue(Prompt(100, i), 20));
    EXPECT_GE(engine->stats().cached_pages, 6);
    ExpectRest(*engine);
  }
}

// The oldest needs one more page than there are, and the landing is younger.
TEST(LandingTest, IsRecalledWhenAnOlderSequenceNeedsThePages) {
  FakeEngine engine(16, 1, 1, /*headroom=*/0);
  SequenceRequest request = Greedy(Prompt(100, 3), 120);
  request.sampling.stop_ids.clear();
  engine.behaviour.halts_at_step = 20;  // else it might end before the landing is there
  Recorder oldest;
  ASSERT_TRUE(engine->Submit(request, oldest).ok());
  oldest.WaitForTokens(1);
  LandingRecorder landing;
  const SequenceId id = *engine->SubmitLanding(Greedy(Prompt(100, 4), 5), landing);
  engine.behaviour.Resume();
  ASSERT_TRUE(landing.WaitForPages().has_value());
  landing.WaitForRecall();
  EXPECT_FALSE(landing.has_ended()) << "its pages are still written";
  EXPECT_LT(oldest.tokens().size(), 120u);
  engine->Cancel(id);
  EXPECT_TRUE(absl::IsAborted(landing.Wait().status())) << landing.Wait().status();
  EXPECT_TRUE(oldest.Wait().ok());
  EXPECT_EQ(oldest.tokens(), FakeModel::Continue(Prompt(100, 3), 120, /*stops=*/false));
  ExpectRest(*engine);
}

TEST(LandingTest, AFailedDeviceRecallsIt) {
  FakeEngine engine(40);
  engine.behaviour.fails_at_step = 0;
  LandingRecorder landing;
  const auto id = engine->SubmitLanding(Greedy(Prompt(100, 4), 5), landing);
  ASSERT_TRUE(landing.WaitForPages().has_value());
  Recorder other;
  ASSERT_TRUE(engine->Submit(Greedy(Prompt(10, 1), 5), other).ok());
  EXPECT_TRUE(absl::IsUnavailable(other.Wait().status()));
  landing.WaitForRecall();
  EXPECT_TRUE(landing.was_recalled());
  engine->Cancel(*id);
  EXPECT_TRUE(absl::IsUnavailable(landing.Wait().status()));
  ExpectRest(*engine);
}

TEST(LandingTest, OfOneTokenDecodesAtOnce) {
  FakeEngine engine(40);
  LandingRecorder landing;
  const auto id = engine->SubmitLanding(Greedy({5}, 9), landing);
  ASSERT_TRUE(landing.WaitForPages().has_value());
  engine->PagesLanded(*id);
  EXPECT_TRUE(landing.Wait().ok());
  EXPECT_EQ(landing.tokens(), FakeModel::Continue({5}, 9));
}

TEST(LandingTest, ComputesNothingWhereAllIsHeld) {
  FakeEngine engine(40);
  for (int round = 0; round < 2; ++round) {
    LandingRecorder landing;
    PrefillRecorder prefill;
    const auto id = engine->SubmitLanding(Greedy(Prompt(65, 1), 9), landing);
    engine->ComputeLanding(*id, prefill);
    EXPECT_TRUE(prefill.Wait().ok());
    EXPECT_EQ(prefill.held(), round == 0 ? 0 : 64);
    EXPECT_EQ(prefill.computed().empty(), round == 1);
    EXPECT_TRUE(landing.Wait().ok());
    EXPECT_EQ(landing.tokens(), FakeModel::Continue(Prompt(65, 1), 9));
  }
}

TEST(LandingTest, WhoeverAdoptsHearsOfTheEnd) {
  FakeEngine engine(40);
  SequenceRequest request = Greedy(Prompt(65, 1), 9);
  request.spans = {{10, 5, "x"}};
  LandingRecorder landing;
  PrefillRecorder prefill;
  const auto id = engine->SubmitLanding(request, landing);
  engine->ComputeLanding(*id, prefill);
  engine->Cancel(*id);
  EXPECT_TRUE(absl::IsCancelled(prefill.Wait().status()));
  EXPECT_TRUE(absl::IsCancelled(landing.Wait().status()));
  PrefillRecorder late;
  engine->ComputeLanding(*id, late);
  EXPECT_TRUE(absl::IsNotFound(late.Wait().status()));
}

// Requests over two engines, from several threads, with everything late and most things cancelled
// at some moment. Whoever gets through has the right tokens, and at the end nothing is held.
class Storm {
 public:
  explicit Storm(uint32_t seed)
      : random_(seed),
        layers_(1 + static_cast<int>(random_() % 3)),
        prefill_(20 + random_() % 40, layers_, 1 + random_() % 4),
        decode_(20 + random_() % 40, layers_, 1 + random_() % 4, random_() % 40) {
    prefill_.behaviour.delay = decode_.behaviour.delay = absl::Microseconds(random_() % 300 + 1);
  }

  void Run(int requests) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([this, requests, seed = random_()] {
        std::mt19937 random(seed);
        for (int i = 0; i < requests; ++i) One(random);
      });
    }
    for (std::thread& thread : threads) thread.join();
    ExpectRest(*prefill_);
    ExpectRest(*decode_);
  }

  std::atomic<int> done{0}, cancelled{0}, refused{0}, recalled{0};

 private:
  static void Pause(std::mt19937& random) {
    if (random() % 2 == 0) return;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1500));
  }

  void One(std::mt19937& random) {
    const int64_t tokens = 1 + random() % 120;
    SequenceRequest request = Greedy(Prompt(tokens, random() % 5), 1 + random() % 60);
    const auto wanted = FakeModel::Continue(request.tokens, request.sampling.max_new_tokens);
    LandingRecorder landing;
    const auto id = decode_->SubmitLanding(request, landing);
    if (!id.ok()) return;
    const std::optional<LandingPages> pages = landing.WaitForPages();
    if (!pages) {
      EXPECT_TRUE(absl::IsResourceExhausted(landing.Wait().status()));
      ++refused;
      return;
    }
    Pause(random);
    const int way = static_cast<int>(random() % 8);
    PrefillRecorder computed;
    bool complete = pages->held_tokens() == pages->tokens();
    if (!complete && way == 0) {
      decode_->ComputeLanding(*id, computed);
      Pause(random);
      if (random() % 2 == 0) decode_->Cancel(*id);
      (void)computed.Wait();
    } else {
      if (!complete) complete = Prefill(random, request, *pages, computed, landing, way);
      // Nobody writes to the places from here on.
      if (complete && way != 1) {
        decode_->PagesLanded(*id);
      } else {
        decode_->Cancel(*id);
      }
    }
    Pause(random);
    if (random() % 4 == 0) decode_->Cancel(*id);
    const absl::StatusOr<Finish> finish = landing.Wait();
    const auto got = landing.tokens();
    ASSERT_LE(got.size(), wanted.size());
    EXPECT_TRUE(std::equal(got.begin(), got.end(), wanted.begin()));
    if (finish.ok()) {
      EXPECT_EQ(got, wanted);
      ++done;
    } else {
      EXPECT_TRUE(absl::IsCancelled(finish.status()) || absl::IsAborted(finish.status()))
          << finish.status();
      ++cancelled;
    }
    recalled += landing.was_recalled();
  }

  // True once all pages are in place.
  bool Prefill(std::mt19937& random, const SequenceRequest& request, const LandingPages& pages,
               PrefillRecorder& computed, LandingRecorder& landing, int way) {
    // The link: copies when it gets round to it.
    struct Parcel {
      PageRun run;
      absl::AnyInvocable<void()> sent;
    };
    std::mutex mutex;
    std::deque<Parcel> parcels;
    computed.on_pages = [&](PageRun run, absl::AnyInvocable<void()> sent) {
      const std::lock_guard<std::mutex> lock(mutex);
      parcels.push_back({std::move(run), std::move(sent)});
    };
    const auto source = prefill_->SubmitPrefill(PrefillOf(request, pages.held_tokens()), computed);
    if (!source.ok()) return false;
    bool closed = false;  // the slot
    for (;;) {
      const bool ended = computed.has_ended();
      std::deque<Parcel> some;
      {
        const std::lock_guard<std::mutex> lock(mutex);
        some.swap(parcels);
      }
      for (Parcel& parcel : some) {
        Pause(random);
        closed |= landing.was_recalled();
        if (!closed) CopyRun(parcel.run, pages);
        parcel.sent();
      }
      if (ended) break;
      if (way == 2 && random() % 64 == 0) prefill_->Cancel(*source);
      std::this_thread::yield();
    }
    return !closed && computed.Wait().ok();
  }

  std::mt19937 random_;
  const int layers_;
  FakeEngine prefill_;
  FakeEngine decode_;
};

TEST(HandoverStormTest, NothingIsLostAndNothingIsHeld) {
  int done = 0, cancelled = 0, refused = 0;
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    Storm storm(seed);
    storm.Run(25);
    if (HasFailure()) return;
    done += storm.done;
    cancelled += storm.cancelled;
    refused += storm.refused;
  }
  EXPECT_GT(done, 100);
  EXPECT_GT(cancelled, 100);
  EXPECT_GT(refused, 20);
}

}  // namespace
}  // namespace minicpmv
