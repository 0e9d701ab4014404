// What the original draws from: tests/testdata/goldens/*/cases.json, field "sampled".
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "nlohmann/json.hpp"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/engine/sampler.h"

namespace minicpmv {
namespace {

class SampledGoldensTest : public ::testing::TestWithParam<std::string> {};

TEST_P(SampledGoldensTest, DrawsFromTheOriginalsDistribution) {
  const std::string folder =
      std::string(MINICPMV_SOURCE_DIR) + "/tests/testdata/goldens/" + GetParam();
  const nlohmann::json cases = nlohmann::json::parse(std::ifstream(folder + "/cases.json"));
  const auto tensors = OpenSafetensors(folder + "/tensors.safetensors").value();
  Sampler::Workspace workspace;
  int compared = 0;
  for (const auto& golden : cases["cases"]) {
    if (!golden.contains("sampled")) continue;
    const std::string name = golden["name"];
    const ConstTensorView rows = tensors->Find(name + ".greedy_logits").value();
    for (const auto& sampled : golden["sampled"]) {
      SamplingSettings settings;
      settings.temperature = sampled["temperature"];
      settings.top_k = sampled["top_k"];
      settings.top_p = sampled["top_p"];
      settings.repetition_penalty = sampled["repetition_penalty"];
      settings.min_new_tokens = sampled["min_new_tokens"];
      settings.max_new_tokens = 100;
      settings.stop_ids = cases["stop_ids"].get<std::vector<int32_t>>();
      ASSERT_TRUE(Validate(settings, rows.columns()).ok());
      const auto history = sampled["history"].get<std::vector<int32_t>>();
      const ConstTensorView row = rows.Rows(static_cast<int64_t>(history.size()), 1);
      const auto got =
          Sampler(settings, history)
              .Distribution({row.as<float>(), static_cast<size_t>(row.columns())}, workspace)
              .value();
      const auto ids = sampled["ids"].get<std::vector<int32_t>>();
      const auto probabilities = sampled["probabilities"].get<std::vector<double>>();
      ASSERT_EQ(got.size(), ids.size()) << name << " after " << history.size();
      for (size_t i = 0; i < ids.size(); ++i) {
        EXPECT_EQ(got[i].id, ids[i]) << name << " after " << history.size() << " rank " << i;
        EXPECT_NEAR(got[i].probability, probabilities[i], 1e-4) << name << " rank " << i;
      }
      ++compared;
    }
  }
  EXPECT_GT(compared, 10);
}

INSTANTIATE_TEST_SUITE_P(Goldens, SampledGoldensTest,
                         ::testing::Values("v26-mini-f32", "v26-mini-bf16",
                                           "v26-real-geometry-f32"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace minicpmv
