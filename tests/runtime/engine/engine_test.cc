#include "runtime/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <functional>
#include <limits>
#include <optional>
#include <random>
#include <thread>

#include "runtime/device/cpu_device.h"
#include "tests/runtime/engine/fake_stage.h"
#include "tests/runtime/engine/recorder.h"

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() {
    options_.pages = 200;
    options_.max_positions = 1000;
    options_.scheduler.chunk = 16;
    options_.scheduler.max_rows = 64;
    options_.scheduler.max_logit_rows = 16;
  }
  ~EngineTest() override {
    engine_.reset();
    pipeline_.reset();
  }

  void Start(int stages = 1, int depth = 1) {
    std::vector<std::unique_ptr<Stage>> row;
    for (int i = 0; i < stages; ++i) {
      row.push_back(
          std::make_unique<FakeStage>(options_.pages, i, i == stages - 1, behaviour_, i + 1));
    }
    options_.scheduler.depth = depth;
    PipelineOptions pipeline;
    pipeline.depth = depth;
    pipeline.max_rows = options_.scheduler.max_rows;
    pipeline.max_logit_rows = options_.scheduler.max_logit_rows;
    pipeline.hidden = FakeModel::kHidden;
    pipeline.vocabulary = FakeModel::kVocabulary;
    pipeline_ = Pipeline::Create(std::move(row), device_, pipeline).value();
    engine_.emplace(options_, *pipeline_);
  }

  static SequenceRequest Greedy(std::vector<int32_t> prompt, int64_t new_tokens) {
    SequenceRequest request;
    request.id = "test";
    request.prompt_tokens = static_cast<int64_t>(prompt.size());
    request.tokens = std::move(prompt);
    request.sampling.greedy = true;
    request.sampling.max_new_tokens = new_tokens;
    request.sampling.stop_ids = {FakeModel::kStop};
    return request;
  }
  static std::vector<int32_t> Prompt(int64_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % FakeModel::kVocabulary);
    return tokens;
  }

  CpuDevice device_{"cpu:0", 1};
  FakeStage::Behaviour behaviour_;
  EngineOptions options_;
  std::unique_ptr<Pipeline> pipeline_;
  std::optional<Engine> engine_;
};

TEST_F(EngineTest, ContinuesAPrompt) {
  Start();
  Recorder recorder;
  ASSERT_TRUE(engine_->Submit(Greedy(Prompt(40, 1), 30), recorder).ok());
  const Finish finish = recorder.Wait().value();
  const auto expected = FakeModel::Continue(Prompt(40, 1), 30);
  EXPECT_EQ(recorder.tokens(), expected);
  EXPECT_EQ(finish.reason,
            expected.back() == FakeModel::kStop ? FinishReason::kStop : FinishReason::kLength);
  EXPECT_LE(finish.submitted, finish.started);
  EXPECT_LT(finish.started, finish.prompt_done);
  EXPECT_LT(finish.prompt_done, finish.ended);
  const EngineStats stats = engine_->stats();
  EXPECT_EQ(stats.free_pages, stats.pages);
  EXPECT_EQ(stats.prompt_tokens, 40);
  EXPECT_EQ(stats.new_tokens, static_cast<int64_t>(expected.size()));
  EXPECT_EQ(stats.running + stats.waiting, 0);
  EXPECT_GT(stats.busy, absl::ZeroDuration());
}

TEST_F(EngineTest, StopsAtAStopId) {
  Start();
  const auto expected = FakeModel::Continue(Prompt(9, 3), 10);
  SequenceRequest request = Greedy(Prompt(9, 3), 10);
  request.sampling.stop_ids = {expected[4]};
  Recorder recorder;
  ASSERT_TRUE(engine_->Submit(request, recorder).ok());
  EXPECT_EQ(recorder.Wait()->reason, FinishReason::kStop);
  EXPECT_EQ(recorder.tokens().back(), expected[4]);
  EXPECT_LE(recorder.tokens().size(), 5u);
}

TEST_F(EngineTest, TheContextCutsTheReply) {
  options_.max_positions = 50;
  Start();
  SequenceRequest request = Greedy(Prompt(45, 2), std::numeric_limits<int64_t>::max());
  request.sampling.stop_ids.clear();
  Recorder recorder;
  ASSERT_TRUE(engine_->Submit(request, recorder).ok());
  EXPECT_EQ(recorder.Wait()->reason, FinishReason::kLength);
  EXPECT_EQ(recorder.tokens().size(), 5u);
}

// Chunks, depths, stages and company make no difference to anybody's tokens.
TEST_F(EngineTest, TokensDependOnTheSequenceOnly) {
  behaviour_.delay = absl::Microseconds(300);
  for (const auto& [chunk, depth, stages] :
       std::vector<std::array<int, 3>>{{1, 1, 1}, {16, 2, 1}, {17, 4, 3}, {512, 2, 3}, {5, 3, 2}}) {
    SCOPED_TRACE(absl::StrCat("chunk ", chunk, " depth ", depth, " stages ", stages));
    engine_.reset();
    pipeline_.reset();
    options_.scheduler.chunk = chunk;
    options_.scheduler.max_rows = chunk + 16;
    Start(stages, depth);
    constexpr int kSequences = 16;
    std::deque<Recorder> recorders(kSequences);
    for (int i = 0; i < kSequences; ++i) {
      ASSERT_TRUE(engine_->Submit(Greedy(Prompt(1 + 7 * i, i), 20), recorders[i]).ok());
    }
    for (int i = 0; i < kSequences; ++i) {
      EXPECT_TRUE(recorders[i].Wait().ok());
      EXPECT_EQ(recorders[i].tokens(), FakeModel::Continue(Prompt(1 + 7 * i, i), 20)) << i;
    }
    EXPECT_EQ(engine_->stats().free_pages, options_.pages);
  }
}

TEST_F(EngineTest, ASeededDrawIsTheSameInAnyCompany) {
  Start(2, 2);
  const auto draw = [&](int company) {
    std::deque<Recorder> recorders(company + 1);
    for (int i = 0; i <= company; ++i) {
      SequenceRequest request = Greedy(Prompt(20, i), 25);
      request.sampling.greedy = false;
      request.sampling.stop_ids.clear();
      request.sampling.seed = i;
      EXPECT_TRUE(engine_->Submit(request, recorders[i]).ok());
    }
    for (Recorder& recorder : recorders) (void)recorder.Wait();
    return recorders[0].tokens();
  };
  const auto alone = draw(0);
  EXPECT_EQ(alone.size(), 25u);
  EXPECT_EQ(draw(9), alone);
  EXPECT_NE(alone, FakeModel::Continue(Prompt(20, 0), 25, /*stops=*/false));
}

TEST_F(EngineTest, RowsTakeThePlaceOfTokensWhereverChunksCut) {
  for (const int chunk : {1, 16, 17, 64}) {
    engine_.reset();
    pipeline_.reset();
    options_.scheduler.chunk = options_.scheduler.max_rows = chunk;
    Start(2, 2);
    std::vector<int32_t> prompt = Prompt(60, 8);
    SequenceRequest request = Greedy(prompt, 10);
    request.spans = {{3, 10}, {13, 1}, {40, 20}};
    std::vector<std::vector<float>> rows;
    std::vector<int32_t> history = prompt;
    for (const auto& span : request.spans) {
      std::vector<float>& values = rows.emplace_back(span.count * FakeModel::kHidden);
      for (int64_t i = 0; i < span.count; ++i) {
        values[i * FakeModel::kHidden] = static_cast<float>(100 * rows.size() + i);
        history[span.first + i] = -1 - static_cast<int32_t>(100 * rows.size() + i);
      }
    }
    Recorder recorder;
    const SequenceId id = engine_->Submit(request, recorder).value();
    // In any order.
    for (const int span : {2, 0, 1}) {
      engine_->ProvideRows(
          id, span,
          {rows[span].data(), DType::kF32, Shape{request.spans[span].count, FakeModel::kHidden}});
    }
    EXPECT_TRUE(recorder.Wait().ok());
    EXPECT_EQ(recorder.tokens(), FakeModel::Continue(history, 10));
  }
}

TEST_F(EngineTest, RowsThatDoNotFitEndTheSequence) {
  Start();
  std::vector<float> row(FakeModel::kHidden * 2);
  const std::vector<std::pair<int, ConstTensorView>> cases = {
      {0, {row.data(), DType::kF32, Shape{1, FakeModel::kHidden}}},
      {0, {row.data(), DType::kF32, Shape{2, FakeModel::kHidden - 1}}},
      {0, {row.data(), DType::kI32, Shape{2, FakeModel::kHidden}}},
      {0, {nullptr, DType::kF32, Shape{2, FakeModel::kHidden}}},
      {1, {row.data(), DType::kF32, Shape{2, FakeModel::kHidden}}},
      {-1, {row.data(), DType::kF32, Shape{2, FakeModel::kHidden}}},
  };
  for (const auto& [span, view] : cases) {
    SequenceRequest request = Greedy(Prompt(10, 1), 5);
    request.spans = {{2, 2}};
    Recorder recorder;
    const SequenceId id = engine_->Submit(request, recorder).value();
    engine_->ProvideRows(id, span, view);
    EXPECT_TRUE(absl::IsInvalidArgument(recorder.Wait().status()));
    engine_->ProvideRows(id, span, view);  // passed over
  }
  EXPECT_EQ(engine_->stats().free_pages, options_.pages);
}

TEST_F(EngineTest, ShowsLogitsOfTheLastPromptPositionsAndOfEachStep) {
  Start(2, 2);
  SequenceRequest request = Greedy(Prompt(40, 5), 4);
  request.sampling.stop_ids.clear();
  request.show_logits_from = 32;
  Recorder recorder;
  ASSERT_TRUE(engine_->Submit(request, recorder).ok());
  EXPECT_TRUE(recorder.Wait().ok());
  std::vector<int32_t> history = Prompt(40, 5);
  for (int32_t token : recorder.tokens()) history.push_back(token);
  ASSERT_EQ(recorder.positions.size(), 8u + 3);
  for (size_t i = 0; i < recorder.positions.size(); ++i) {
    EXPECT_EQ(recorder.positions[i], static_cast<int64_t>(32 + i));
    EXPECT_EQ(recorder.rows[i],
              FakeModel::LogitsAfter({history.begin(), history.begin() + 33 + i}));
  }
}

TEST_F(EngineTest, FeedsForcedTokensAndTellsWhatItWouldHaveChosen) {
  Start();
  SequenceRequest request = Greedy(Prompt(10, 5), 5);
  request.sampling.stop_ids.clear();
  request.forced_tokens = {1, 2, 3};
  Recorder recorder;
  ASSERT_TRUE(engine_->Submit(request, recorder).ok());
  EXPECT_TRUE(recorder.Wait().ok());
  std::vector<int32_t> history = Prompt(10, 5);
  std::vector<int32_t> expected;
  for (int i = 0; i < 5; ++i) {
    expected.push_back(FakeModel::Continue(history, 1)[0]);
    history.push_back(i < 3 ? request.forced_tokens[i] : expected.back());
  }
  EXPECT_EQ(recorder.tokens(), expected);
}

TEST_F(EngineTest, PreemptedSequencesComeAgainAndLoseNoToken) {
  options_.pages = 9;
  options_.scheduler.headroom = 0;
  for (const int depth : {1, 3}) {
    engine_.reset();
    pipeline_.reset();
    Start(depth, depth);
    constexpr int kSequences = 6;
    struct Client {
      SequenceRequest request;
      std::vector<int32_t> tokens;
    };
    std::vector<Client> clients(kSequences);
    std::vector<std::thread> threads;
    std::atomic<int> preempted = 0;
    for (int i = 0; i < kSequences; ++i) {
      clients[i].request = Greedy(Prompt(10 + i, 20 + i), 60);
      clients[i].request.sampling.stop_ids.clear();
      threads.emplace_back([&, i] {
        Client& client = clients[i];
        for (;;) {
          Recorder recorder;
          const SequenceId id = engine_->Submit(client.request, recorder).value();
          const auto finish = recorder.Wait();
          for (int32_t token : recorder.tokens()) {
            client.tokens.push_back(token);
            client.request.tokens.push_back(token);
          }
          if (finish.ok()) return;
          ASSERT_TRUE(absl::IsAborted(finish.status())) << finish.status();
          if (client.request.again < 0) client.request.again = id;
          ++preempted;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (int i = 0; i < kSequences; ++i) {
      EXPECT_EQ(clients[i].tokens, FakeModel::Continue(Prompt(10 + i, 20 + i), 60, /*stops=*/false))
          << i;
    }
    EXPECT_GT(preempted, 0);
    EXPECT_EQ(engine_->stats().preempted, preempted);
    EXPECT_EQ(engine_->stats().free_pages, 9);
  }
}

TEST_F(EngineTest, CancelMidWayFreesAllPages) {
  behaviour_.delay = absl::Microseconds(200);
  Start(3, 3);
  std::deque<Recorder> recorders(8);
  std::vector<SequenceId> ids;
  for (int i = 0; i < 8; ++i) {
    SequenceRequest request = Greedy(Prompt(30, i), 900);
    request.sampling.stop_ids.clear();
    ids.push_back(engine_->Submit(request, recorders[i]).value());
  }
  for (int i = 0; i < 8; ++i) {
    recorders[i].WaitForTokens(i);
    engine_->Cancel(ids[i]);
  }
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(absl::IsCancelled(recorders[i].Wait().status()));
    engine_->Cancel(ids[i]);  // passed over
  }
  EXPECT_EQ(engine_->stats().free_pages, options_.pages);
}

TEST_F(EngineTest, EndsWhatRunsWhenItIsDestroyed) {
  behaviour_.delay = absl::Microseconds(200);
  options_.pages = 12;
  Start(2, 2);
  std::deque<Recorder> recorders(10);
  for (int i = 0; i < 10; ++i) {
    SequenceRequest request = Greedy(Prompt(30, i), 100);
    request.sampling.stop_ids.clear();
    ASSERT_TRUE(engine_->Submit(request, recorders[i]).ok());
  }
  recorders[0].WaitForTokens(3);
  engine_.reset();
  for (Recorder& recorder : recorders) {
    EXPECT_EQ(recorder.ends(), 1);
    EXPECT_TRUE(absl::IsCancelled(recorder.Wait().status()));
  }
}

TEST_F(EngineTest, AFailedDeviceEndsEverySequenceWithItsStatus) {
  behaviour_.delay = absl::Microseconds(200);
  behaviour_.fails_at_step = 20;
  Start(3, 3);
  std::deque<Recorder> recorders(5);
  for (int i = 0; i < 5; ++i) {
    SequenceRequest request = Greedy(Prompt(30, i), 500);
    request.sampling.stop_ids.clear();
    ASSERT_TRUE(engine_->Submit(request, recorders[i]).ok());
  }
  for (Recorder& recorder : recorders) {
    const absl::Status status = recorder.Wait().status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_EQ(recorder.ends(), 1);
  }
  EXPECT_EQ(engine_->stats().free_pages, options_.pages);
  Recorder late;
  const auto submitted = engine_->Submit(Greedy({1}, 1), late);
  EXPECT_TRUE(absl::IsUnavailable(submitted.ok() ? late.Wait().status() : submitted.status()));
}

TEST_F(EngineTest, LogitsThatAreNoNumbersEndOneSequenceOnly) {
  behaviour_.nan_at_step = 6;
  Start();
  std::deque<Recorder> recorders(3);
  for (int i = 0; i < 3; ++i) {
    SequenceRequest request = Greedy(Prompt(4, i), 30);
    request.sampling.stop_ids.clear();
    ASSERT_TRUE(engine_->Submit(request, recorders[i]).ok());
  }
  int failed = 0;
  for (int i = 0; i < 3; ++i) {
    const auto finish = recorders[i].Wait();
    if (finish.ok()) {
      EXPECT_EQ(recorders[i].tokens(), FakeModel::Continue(Prompt(4, i), 30, /*stops=*/false)) << i;
      continue;
    }
    EXPECT_TRUE(absl::IsInternal(finish.status()));
    ++failed;
  }
  EXPECT_EQ(failed, 1);
}

TEST_F(EngineTest, RefusesWhatCannotBe) {
  options_.pages = 4;
  options_.max_positions = 100;
  Start();
  const auto refused = [&](const std::function<void(SequenceRequest&)>& spoil) {
    SequenceRequest request = Greedy(Prompt(20, 1), 10);
    spoil(request);
    Recorder recorder;
    return engine_->Submit(request, recorder).status();
  };
  const std::vector<std::pair<std::string, std::function<void(SequenceRequest&)>>> cases = {
      {"tokens: there are none", [](auto& r) { r.tokens.clear(); }},
      {"tokens[3] is 97", [](auto& r) { r.tokens[3] = 97; }},
      {"tokens[0] is -1", [](auto& r) { r.tokens[0] = -1; }},
      {"forced_tokens[0] is 97", [](auto& r) { r.forced_tokens = {97}; }},
      {"prompt_tokens is 0", [](auto& r) { r.prompt_tokens = 0; }},
      {"prompt_tokens is 21", [](auto& r) { r.prompt_tokens = 21; }},
      {"temperature",
       [](auto& r) {
         r.sampling.greedy = false;
         r.sampling.temperature = -1;
       }},
      {"max_new_tokens", [](auto& r) { r.sampling.max_new_tokens = 0; }},
      {"the context holds 100", [](auto& r) { r.tokens.resize(r.prompt_tokens = 100); }},
      {"no more are allowed", [](auto& r) { r.tokens.resize(30); }},
      {"spans[0]",
       [](auto& r) {
         r.spans = {{15, 6}};
       }},
      {"spans[0]",
       [](auto& r) {
         r.spans = {{-1, 2}};
       }},
      {"spans[0]",
       [](auto& r) {
         r.spans = {{3, 0}};
       }},
      {"spans[0]",
       [](auto& r) {
         r.spans = {{1, std::numeric_limits<int64_t>::max()}};
       }},
      {"spans[1]",
       [](auto& r) {
         r.spans = {{5, 5}, {9, 2}};
       }},
  };
  for (const auto& [words, spoil] : cases) {
    const absl::Status status = refused(spoil);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << words << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  }
  EXPECT_TRUE(absl::IsResourceExhausted(refused([](auto& r) { r.sampling.max_new_tokens = 80; })));
}

TEST_F(EngineTest, AnObserverMayCancelAndSubmit) {
  Start();
  Recorder second;
  Recorder first;
  std::atomic<SequenceId> id = -1;
  int tokens = 0;
  first.on_token = [&](int32_t) {
    if (tokens++ == 3) {
      engine_->Cancel(id);
      EXPECT_TRUE(engine_->Submit(Greedy(Prompt(5, 9), 8), second).ok());
    }
  };
  SequenceRequest request = Greedy(Prompt(5, 1), 900);
  request.sampling.stop_ids.clear();
  id = engine_->Submit(request, first).value();
  EXPECT_TRUE(absl::IsCancelled(first.Wait().status()));
  EXPECT_TRUE(second.Wait().ok());
  EXPECT_EQ(second.tokens(), FakeModel::Continue(Prompt(5, 9), 8));
}

// Threads submit, cancel and hand in rows all at once; run under ThreadSanitizer.
TEST_F(EngineTest, ManyThreadsMaySpeakAtOnce) {
  behaviour_.delay = absl::Microseconds(100);
  options_.pages = 60;
  Start(3, 3);
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 12; ++i) {
        SequenceRequest request = Greedy(Prompt(10 + i, 100 * t + i), 12);
        request.spans = {{4, 2}};
        std::vector<float> rows(2 * FakeModel::kHidden, 7);
        Recorder recorder;
        const SequenceId id = engine_->Submit(request, recorder).value();
        engine_->ProvideRows(id, 0, {rows.data(), DType::kF32, Shape{2, FakeModel::kHidden}});
        if (i % 3 == 0) engine_->Cancel(id);
        (void)engine_->stats();
        const auto finish = recorder.Wait();
        if (!finish.ok()) continue;
        std::vector<int32_t> history = Prompt(10 + i, 100 * t + i);
        history[4] = history[5] = -8;
        EXPECT_EQ(recorder.tokens(), FakeModel::Continue(history, 12));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(engine_->stats().free_pages, 60);
}

}  // namespace
}  // namespace minicpmv
