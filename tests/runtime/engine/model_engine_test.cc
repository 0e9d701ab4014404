// The engine on real decoders: tools/nano/model, and the small checkpoints of the goldens.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <fstream>
#include <random>
#include <string>

#include "nlohmann/json.hpp"
#include "tests/runtime/engine/nano_requests.h"

namespace minicpmv {
namespace {

std::vector<std::vector<int32_t>> TokensOf(Engine& engine, int sequences) {
  std::deque<Recorder> recorders(sequences);
  for (int i = 0; i < sequences; ++i) {
    EXPECT_TRUE(engine.Submit(RequestOf(i), recorders[i]).ok());
  }
  std::vector<std::vector<int32_t>> tokens;
  for (Recorder& recorder : recorders) {
    EXPECT_TRUE(recorder.Wait().ok());
    tokens.push_back(recorder.tokens());
  }
  EXPECT_EQ(engine.stats().free_pages, engine.stats().pages);
  return tokens;
}

struct Arrangement {
  int stages, depth, chunk, sequences;
};

class ArrangementTest : public ::testing::TestWithParam<Arrangement> {};

TEST_P(ArrangementTest, ChangesNoToken) {
  ModelEngineOptions options;
  options.stages = GetParam().stages;
  options.depth = GetParam().depth;
  options.chunk = GetParam().chunk;
  ModelEngine engine(Nano(), options);
  const auto tokens = TokensOf(*engine, GetParam().sequences);
  for (size_t i = 0; i < tokens.size(); ++i) EXPECT_EQ(tokens[i], Alone()[i]) << "sequence " << i;
}

INSTANTIATE_TEST_SUITE_P(Arrangements, ArrangementTest,
                         ::testing::Values(Arrangement{1, 1, 1, 1}, Arrangement{1, 1, 16, 8},
                                           Arrangement{1, 1, 17, 8}, Arrangement{1, 1, 512, 8},
                                           Arrangement{1, 2, 17, 8}, Arrangement{1, 4, 16, 8},
                                           Arrangement{3, 1, 512, 8}, Arrangement{3, 2, 17, 8},
                                           Arrangement{3, 4, 1, 1}, Arrangement{3, 4, 16, 8},
                                           Arrangement{2, 2, 512, 16}, Arrangement{5, 4, 100, 16}),
                         [](const auto& info) {
                           return absl::StrCat("Stages", info.param.stages, "Depth",
                                               info.param.depth, "Chunk", info.param.chunk,
                                               "Sequences", info.param.sequences);
                         });

TEST(PreemptionTest, ChangesNoToken) {
  ModelEngineOptions options;
  options.stages = options.depth = 2;
  options.chunk = 17;
  options.pages = 36;  // the longest prompt and little more
  options.headroom = 0;
  ModelEngine engine(Nano(), options);
  constexpr int kSequences = 8;
  std::vector<SequenceRequest> requests;
  for (int i = 0; i < kSequences; ++i) requests.push_back(RequestOf(i));
  std::vector<std::vector<int32_t>> tokens(kSequences);
  std::deque<Recorder> recorders;
  std::vector<std::pair<int, Recorder*>> open;
  std::vector<SequenceId> ids(kSequences);
  const auto submit = [&](int i) {
    open.emplace_back(i, &recorders.emplace_back());
    ids[i] = Must(engine->Submit(requests[i], recorders.back()));
  };
  for (int i = 0; i < kSequences; ++i) submit(i);
  int preempted = 0;
  while (!open.empty()) {
    const auto [i, recorder] = open.front();
    open.erase(open.begin());
    const auto finish = recorder->Wait();
    for (int32_t token : recorder->tokens()) {
      tokens[i].push_back(token);
      requests[i].tokens.push_back(token);
    }
    if (finish.ok()) continue;
    ASSERT_TRUE(absl::IsAborted(finish.status())) << finish.status();
    if (requests[i].again < 0) requests[i].again = ids[i];
    ++preempted;
    submit(i);
  }
  EXPECT_GT(preempted, 0);
  for (int i = 0; i < kSequences; ++i) EXPECT_EQ(tokens[i], Alone()[i]) << "sequence " << i;
  EXPECT_EQ(engine->stats().free_pages, options.pages);
}

TEST(CacheDtypeTest, ChangesNoTokenEither) {
  ModelEngineOptions one;
  one.cache = DType::kBF16;
  ModelEngineOptions three = one;
  three.stages = three.depth = 3;
  three.chunk = 17;
  ModelEngine a(Nano(), one);
  ModelEngine b(Nano(), three);
  EXPECT_EQ(TokensOf(*a, 8), TokensOf(*b, 8));
}

double LargestOf(ConstTensorView view) {
  double largest = 0;
  const float* values = view.as<float>();
  for (int64_t i = 0; i < view.shape.elements(); ++i) {
    largest = std::max(largest, std::abs(double{values[i]}));
  }
  return largest;
}

class GoldenRepliesTest : public ::testing::TestWithParam<std::string> {};

// The goldens' own ids and rows in, their greedy tokens out, up to the first step at which the two
// best scores are closer than two results may differ.
TEST_P(GoldenRepliesTest, AreTheOriginals) {
  const std::string folder =
      std::string(MINICPMV_SOURCE_DIR) + "/tests/testdata/goldens/" + GetParam();
  const nlohmann::json cases = nlohmann::json::parse(std::ifstream(folder + "/cases.json"));
  const auto tensors = Must(OpenSafetensors(folder + "/tensors.safetensors"));
  const ModelFolder model(folder + "/checkpoint");
  ModelEngineOptions options;
  options.stages = options.depth = 2;
  options.chunk = 50;
  ModelEngine engine(model, options);

  struct Reply {
    std::string name;
    const nlohmann::json* golden;
    double largest_logit;
    Recorder recorder;
  };
  std::deque<Reply> replies;
  for (const auto& golden : cases["cases"]) {
    const std::string name = golden["name"];
    for (const auto& [field, penalty] :
         {std::pair<std::string, double>{"greedy", 1.0}, {"greedy_penalty_1.05", 1.05}}) {
      if (!golden.contains(field)) continue;
      SequenceRequest request;
      request.id = name;
      request.tokens = golden["input_ids"].get<std::vector<int32_t>>();
      request.prompt_tokens = static_cast<int64_t>(request.tokens.size());
      request.sampling.greedy = true;
      request.sampling.repetition_penalty = penalty;
      request.sampling.max_new_tokens = static_cast<int64_t>(golden[field]["tokens"].size());
      request.sampling.stop_ids = cases["stop_ids"].get<std::vector<int32_t>>();
      for (const auto& bounds : golden["image_bounds"]) {
        const int64_t first = bounds[0];
        const int64_t end = bounds[1];
        request.spans.push_back({first, end - first});
      }
      Reply& reply = replies.emplace_back();
      reply.name = name + "." + field;
      reply.golden = &golden[field];
      reply.largest_logit = LargestOf(Must(tensors->Find(name + ".greedy_logits")));
      const auto spans = request.spans;
      const SequenceId id = Must(engine->Submit(std::move(request), reply.recorder));
      int64_t row = 0;
      for (size_t s = 0; s < spans.size(); ++s) {
        engine->ProvideRows(id, static_cast<int64_t>(s),
                            Must(tensors->Find(name + ".rows")).Rows(row, spans[s].count));
        row += spans[s].count;
      }
    }
  }
  int compared = 0;
  for (Reply& reply : replies) {
    ASSERT_TRUE(reply.recorder.Wait().ok()) << reply.name;
    const auto got = reply.recorder.tokens();
    const auto wanted = (*reply.golden)["tokens"].get<std::vector<int32_t>>();
    const auto margins = (*reply.golden)["margins"].get<std::vector<double>>();
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (margins[i] < 2 * 5e-5 * reply.largest_logit) break;
      ASSERT_LT(i, got.size()) << reply.name;
      ASSERT_EQ(got[i], wanted[i]) << reply.name << " step " << i;
      ++compared;
    }
  }
  EXPECT_GT(compared, 100);
}

INSTANTIATE_TEST_SUITE_P(Goldens, GoldenRepliesTest,
                         ::testing::Values("v26-mini-f32", "v26-mini-bf16",
                                           "v26-real-geometry-f32"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace minicpmv
