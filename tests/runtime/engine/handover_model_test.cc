// A prompt computed by one engine and continued by another, on a real decoder: no arrangement of
// the two and nothing that either remembers changes a token.
#include <gtest/gtest.h>

#include <deque>

#include "tests/runtime/engine/handover_recorder.h"
#include "tests/runtime/engine/nano_requests.h"

namespace minicpmv {
namespace {

// Rows of a request's spans, the same for everybody who asks.
std::vector<std::vector<float>> RowsOf(const SequenceRequest& request) {
  std::vector<std::vector<float>> rows;
  for (const SequenceRequest::Span& span : request.spans) {
    std::mt19937 random(static_cast<uint32_t>(std::hash<std::string>()(span.content)));
    std::vector<float>& values = rows.emplace_back(span.count * Nano().spec.language.hidden);
    for (float& value : values) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
  }
  return rows;
}

// Those that are not held.
void Provide(Engine& engine, SequenceId id, const SequenceRequest& request,
             const std::vector<std::vector<float>>& rows, int64_t held) {
  for (size_t i = 0; i < rows.size(); ++i) {
    const SequenceRequest::Span& span = request.spans[i];
    if (span.first + span.count <= held) continue;
    engine.ProvideRows(
        id, static_cast<int64_t>(i),
        {rows[i].data(), DType::kF32, Shape{span.count, Nano().spec.language.hidden}});
  }
}

std::vector<int32_t> InOneProcess(Engine& engine, const SequenceRequest& request) {
  Recorder recorder;
  const auto rows = RowsOf(request);
  const SequenceId id = Must(engine.Submit(request, recorder));
  Provide(engine, id, request, rows, 0);
  EXPECT_TRUE(recorder.Wait().ok());
  return recorder.tokens();
}

// One sequence on its way from one engine to another.
class Handover {
 public:
  Handover(Engine& prefill, Engine& decode, const SequenceRequest& request)
      : rows_(RowsOf(request)) {
    const SequenceId id = Must(decode.SubmitLanding(request, landing));
    pages = landing.WaitForPages().value();
    if (pages.held_tokens() == pages.tokens()) {
      decode.PagesLanded(id);
      return;
    }
    computed.on_pages = [this](PageRun run, absl::AnyInvocable<void()> sent) {
      CopyRun(run, pages);
      sent();
    };
    computed.on_end = [this, &decode, id](const absl::StatusOr<Finish>& finish) {
      EXPECT_TRUE(finish.ok()) << finish.status();
      EXPECT_TRUE(computed.HasShown(pages.layers(), pages.held_tokens(), pages.tokens()));
      decode.PagesLanded(id);
    };
    const SequenceId source =
        Must(prefill.SubmitPrefill(PrefillOf(request, pages.held_tokens()), computed));
    computed.WaitForRuns(0);
    Provide(prefill, source, request, rows_, 0);
    prefills = true;
  }

  std::vector<int32_t> Tokens() {
    EXPECT_TRUE(landing.Wait().ok()) << landing.Wait().status();
    if (prefills) {
      EXPECT_TRUE(computed.Wait().ok());
    }
    return landing.tokens();
  }

  LandingRecorder landing;
  PrefillRecorder computed;
  LandingPages pages;
  bool prefills = false;

 private:
  std::vector<std::vector<float>> rows_;
};

void ExpectRest(Engine& engine) {
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.free_pages + stats.cached_pages, stats.pages);
  EXPECT_EQ(stats.held_pages, 0);
  EXPECT_EQ(stats.landing_pages, 0);
  EXPECT_EQ(stats.landings + stats.running + stats.waiting, 0);
}

struct Side {
  int stages, depth, chunk;
};

ModelEngineOptions OptionsOf(const Side& side) {
  ModelEngineOptions options;
  options.stages = side.stages;
  options.depth = side.depth;
  options.chunk = side.chunk;
  return options;
}

class HandoverTest : public ::testing::TestWithParam<std::pair<Side, Side>> {};

TEST_P(HandoverTest, ChangesNoToken) {
  ModelEngine prefill(Nano(), OptionsOf(GetParam().first));
  ModelEngine decode(Nano(), OptionsOf(GetParam().second));
  std::deque<Handover> handovers;
  for (int i = 0; i < 8; ++i) handovers.emplace_back(*prefill, *decode, RequestOf(i));
  for (int i = 0; i < 8; ++i) EXPECT_EQ(handovers[i].Tokens(), Alone()[i]) << "sequence " << i;
  ExpectRest(*prefill);
  ExpectRest(*decode);
  EXPECT_EQ(prefill->stats().new_tokens, 0);
}

TEST_P(HandoverTest, GoesOnFromTokensSoFar) {
  ModelEngine prefill(Nano(), OptionsOf(GetParam().first));
  ModelEngine decode(Nano(), OptionsOf(GetParam().second));
  for (int i = 0; i < 8; ++i) {
    SequenceRequest request = RequestOf(i);
    const auto& alone = Alone()[i];
    const size_t so_far = std::min<size_t>(alone.size() - 1, 1 + 5 * i);
    request.tokens.insert(request.tokens.end(), alone.begin(), alone.begin() + so_far);
    Handover handover(*prefill, *decode, request);
    const std::vector<int32_t> rest(alone.begin() + so_far, alone.end());
    EXPECT_EQ(handover.Tokens(), rest) << "sequence " << i;
  }
}

TEST_P(HandoverTest, NeitherDoesWhatEitherSideRemembers) {
  ModelEngine prefill(Nano(), OptionsOf(GetParam().first));
  ModelEngine decode(Nano(), OptionsOf(GetParam().second));
  for (int i : {3, 0, 1}) {
    const int64_t tokens = static_cast<int64_t>(RequestOf(i).tokens.size());
    Handover first(*prefill, *decode, RequestOf(i));
    EXPECT_EQ(first.Tokens(), Alone()[i]);
    // The decode side holds all; the prefill side leaves itself one position.
    Handover second(*prefill, *decode, RequestOf(i));
    EXPECT_EQ(second.Tokens(), Alone()[i]);
    EXPECT_EQ(second.pages.held_tokens(), (tokens - 1) / kPageSize * kPageSize);
    if (second.prefills) {
      EXPECT_EQ(second.computed.held(), (tokens - 2) / kPageSize * kPageSize);
    }
    // Another decode worker has nothing: what the prefill side holds is shown all the same.
    ModelEngine other(Nano(), OptionsOf(GetParam().second));
    Handover third(*prefill, *other, RequestOf(i));
    EXPECT_EQ(third.Tokens(), Alone()[i]);
    EXPECT_EQ(third.pages.held_tokens(), 0);
    EXPECT_EQ(third.computed.held(), (tokens - 2) / kPageSize * kPageSize);

    // The next turn: the decode side holds the reply as well.
    SequenceRequest turn = RequestOf(i);
    turn.tokens.insert(turn.tokens.end(), Alone()[i].begin(), Alone()[i].end());
    const int64_t said = static_cast<int64_t>(turn.tokens.size());
    for (int32_t id : {7, 8, 9, 10, 11}) turn.tokens.push_back(id);
    turn.prompt_tokens = static_cast<int64_t>(turn.tokens.size());
    turn.sampling.max_new_tokens = 12;
    Handover next(*prefill, *decode, turn);
    ModelEngine alone(Nano(), ModelEngineOptions());
    EXPECT_EQ(next.Tokens(), InOneProcess(*alone, turn));
    EXPECT_GE(next.pages.held_tokens(), (said - 1) / kPageSize * kPageSize);
    EXPECT_EQ(next.computed.held(), (tokens - 1) / kPageSize * kPageSize);
  }
}

TEST_P(HandoverTest, SpansAreWorthTheirRows) {
  SequenceRequest request = RequestOf(2);
  request.tokens.resize(150, 5);
  request.prompt_tokens = 150;
  request.spans = {{5, 64, "one"}, {80, 40, "two"}};
  ModelEngine alone(Nano(), ModelEngineOptions());
  const auto wanted = InOneProcess(*alone, request);
  ModelEngine prefill(Nano(), OptionsOf(GetParam().first));
  ModelEngine decode(Nano(), OptionsOf(GetParam().second));
  {
    Handover first(*prefill, *decode, request);
    EXPECT_EQ(first.Tokens(), wanted);
  }
  // Another picture in the same place.
  SequenceRequest other = request;
  other.spans[1].content = "three";
  const auto different = InOneProcess(*alone, other);
  EXPECT_NE(different, wanted);
  {
    Handover handover(*prefill, *decode, other);
    EXPECT_EQ(handover.Tokens(), different);
    EXPECT_EQ(handover.computed.held(), 80);
  }
  // Another tenant.
  other.cache_scope = "other";
  {
    Handover handover(*prefill, *decode, other);
    EXPECT_EQ(handover.Tokens(), different);
    EXPECT_EQ(handover.computed.held(), 0);
    EXPECT_EQ(handover.pages.held_tokens(), 0);
  }
  // Rows that nobody can name.
  other.spans[0].content = "";
  for (int i = 0; i < 2; ++i) {
    Handover handover(*prefill, *decode, other);
    handover.Tokens();
    EXPECT_EQ(handover.computed.held(), 0);
  }
}

// The landing's own engine computes what it does not hold.
TEST_P(HandoverTest, AdoptionChangesNoToken) {
  ModelEngine engine(Nano(), OptionsOf(GetParam().second));
  for (int round = 0; round < 2; ++round) {
    std::deque<LandingRecorder> landings(8);
    std::deque<PrefillRecorder> prefills(8);
    for (int i = 0; i < 8; ++i) {
      const SequenceId id = Must(engine->SubmitLanding(RequestOf(i), landings[i]));
      engine->ComputeLanding(id, prefills[i]);
    }
    for (int i = 0; i < 8; ++i) {
      ASSERT_TRUE(landings[i].Wait().ok());
      ASSERT_TRUE(prefills[i].Wait().ok());
      EXPECT_EQ(landings[i].tokens(), Alone()[i]) << "sequence " << i;
      EXPECT_TRUE(prefills[i].HasShown(0, 0, 0));
      const int64_t last = static_cast<int64_t>(RequestOf(i).tokens.size()) - 1;
      if (round == 0) {
        EXPECT_EQ(prefills[i].computed().back(), last);
      } else {
        EXPECT_EQ(prefills[i].held(), last / kPageSize * kPageSize);
      }
    }
    ExpectRest(*engine);
  }
  EXPECT_GT(engine->stats().prefix_hit_tokens, 1000);
}

TEST_P(HandoverTest, OrdinarySequencesMayUsePrefixesToo) {
  ModelEngine engine(Nano(), OptionsOf(GetParam().first));
  for (int round = 0; round < 2; ++round) {
    const int64_t before = engine->stats().prompt_tokens;
    for (int i = 0; i < 8; ++i) {
      SequenceRequest request = RequestOf(i);
      request.uses_prefixes = true;
      EXPECT_EQ(InOneProcess(*engine, request), Alone()[i]);
    }
    if (round == 1) {
      EXPECT_LE(engine->stats().prompt_tokens - before, 8 * kPageSize);
    }
  }
  ExpectRest(*engine);
}

TEST(HandoverDtypeTest, PagesOfBf16TravelAsTheyAre) {
  ModelEngineOptions one;
  one.cache = DType::kBF16;
  ModelEngineOptions three = one;
  three.stages = three.depth = 3;
  three.chunk = 17;
  ModelEngine alone(Nano(), one);
  ModelEngine prefill(Nano(), three);
  ModelEngine decode(Nano(), one);
  for (int i = 0; i < 4; ++i) {
    Handover handover(*prefill, *decode, RequestOf(i));
    EXPECT_EQ(handover.Tokens(), InOneProcess(*alone, RequestOf(i))) << "sequence " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Arrangements, HandoverTest,
                         ::testing::Values(std::pair(Side{1, 1, 512}, Side{1, 1, 512}),
                                           std::pair(Side{1, 1, 16}, Side{3, 3, 512}),
                                           std::pair(Side{3, 3, 512}, Side{1, 1, 16}),
                                           std::pair(Side{3, 4, 17}, Side{2, 2, 16}),
                                           std::pair(Side{5, 2, 7}, Side{1, 2, 512})),
                         [](const auto& info) {
                           const Side& a = info.param.first;
                           const Side& b = info.param.second;
                           return absl::StrCat("Stages", a.stages, "Depth", a.depth, "Chunk",
                                               a.chunk, "To", "Stages", b.stages, "Depth", b.depth,
                                               "Chunk", b.chunk);
                         });

}  // namespace
}  // namespace minicpmv
