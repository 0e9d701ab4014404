#include "runtime/engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

constexpr double kNoChance = -std::numeric_limits<double>::infinity();

// The same six steps as the header states them, one full sort after the other.
std::vector<Sampler::Probability> PlainDistribution(const SamplingSettings& settings,
                                                    const std::vector<int32_t>& generated,
                                                    const std::vector<float>& logits) {
  std::vector<double> scores(logits.begin(), logits.end());
  for (int32_t id : std::set<int32_t>(generated.begin(), generated.end())) {
    scores[id] = scores[id] < 0 ? scores[id] * settings.repetition_penalty
                                : scores[id] / settings.repetition_penalty;
  }
  if (static_cast<int64_t>(generated.size()) < settings.min_new_tokens) {
    for (int32_t id : settings.stop_ids) scores[id] = kNoChance;
  }
  std::vector<int32_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  if (settings.greedy) return {{order[0], 1}};
  for (double& score : scores) score /= settings.temperature;
  if (settings.top_k > 0 && settings.top_k < static_cast<int>(order.size())) {
    const double threshold = scores[order[settings.top_k - 1]];
    std::erase_if(order, [&](int32_t id) { return scores[id] < threshold; });
  }
  std::erase_if(order, [&](int32_t id) { return scores[id] == kNoChance; });
  const auto probabilities = [&] {
    std::vector<Sampler::Probability> all;
    double sum = 0;
    for (int32_t id : order) sum += std::exp(scores[id] - scores[order[0]]);
    for (int32_t id : order) all.push_back({id, std::exp(scores[id] - scores[order[0]]) / sum});
    return all;
  };
  if (settings.top_p < 1) {
    const auto all = probabilities();
    double cumulative = 0;
    for (size_t i = order.size(); i-- > 1;) {
      cumulative += all[i].probability;
      if (cumulative > 1 - settings.top_p) break;
      order.pop_back();
    }
  }
  return probabilities();
}

std::vector<float> RandomLogits(uint32_t seed, int vocabulary, double spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, static_cast<float>(spread));
  std::vector<float> logits(vocabulary);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

void ExpectSame(const std::vector<Sampler::Probability>& got,
                const std::vector<Sampler::Probability>& wanted, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].id, wanted[i].id) << what << " rank " << i;
    EXPECT_NEAR(got[i].probability, wanted[i].probability, 1e-12) << what << " rank " << i;
  }
}

TEST(SamplerTest, DrawsFromTheDistributionThatThePlainStepsGive) {
  Sampler::Workspace workspace;
  std::mt19937 random(1);
  for (int run = 0; run < 600; ++run) {
    const int vocabulary = run % 3 == 0 ? 20 : run % 3 == 1 ? 504 : 9000;
    std::vector<float> logits = RandomLogits(run, vocabulary, run % 5 == 0 ? 0.01 : 4);
    // Ties, and ids without a chance.
    if (run % 4 == 0) {
      for (float& logit : logits) logit = std::round(logit);
    }
    if (run % 7 == 0) logits[random() % vocabulary] = -std::numeric_limits<float>::infinity();
    SamplingSettings settings;
    settings.temperature = std::vector<double>{1, 0.7, 0.2, 1.7}[random() % 4];
    settings.top_k = std::vector<int>{0, 1, 5, 100, 2000, 100000}[random() % 6];
    settings.top_p = std::vector<double>{1, 0.8, 0.5, 0.99, 0.01}[random() % 5];
    settings.repetition_penalty = std::vector<double>{1, 1.05, 1.3, 0.8}[random() % 4];
    settings.max_new_tokens = 100;
    settings.min_new_tokens = random() % 2 * 10;
    settings.stop_ids = {3, 19};
    settings.greedy = run % 10 == 0;
    std::vector<int32_t> generated(random() % 20);
    for (int32_t& id : generated) id = static_cast<int32_t>(random() % std::min(vocabulary, 50));
    Sampler sampler(settings, generated);
    ExpectSame(sampler.Distribution(logits, workspace).value(),
               PlainDistribution(settings, generated, logits), "run " + std::to_string(run));
  }
}

TEST(SamplerTest, TiesAtTheThresholdOfTopKSurvive) {
  SamplingSettings settings;
  settings.top_k = 2;
  Sampler::Workspace workspace;
  const auto left =
      Sampler(settings, {}).Distribution(std::vector<float>{1, 3, 2, 2, 2}, workspace).value();
  EXPECT_EQ(left.size(), 4u);
}

TEST(SamplerTest, TheLargestStaysHoweverSmallTopPIs) {
  SamplingSettings settings;
  settings.top_p = 1e-300;
  Sampler::Workspace workspace;
  const auto left =
      Sampler(settings, {}).Distribution(std::vector<float>(1000, 1.0f), workspace).value();
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].id, 0);
}

TEST(SamplerTest, ARepeatedIdIsPenalisedOnce) {
  SamplingSettings settings;
  settings.repetition_penalty = 2;
  Sampler::Workspace workspace;
  const std::vector<float> logits = {4, -1, 0};
  const auto once = Sampler(settings, {0, 1}).Distribution(logits, workspace).value();
  const auto often = Sampler(settings, {0, 0, 1, 0, 1}).Distribution(logits, workspace).value();
  ExpectSame(often, once, "often");
  EXPECT_NEAR(once[0].probability / once[1].probability, std::exp(2.0), 1e-9);
  EXPECT_NEAR(once[1].probability / once[2].probability, std::exp(2.0), 1e-9);
}

TEST(SamplerTest, GreedyPenalisesAndTakesTheFirstOfEquals) {
  SamplingSettings settings;
  settings.greedy = true;
  settings.repetition_penalty = 1.5;
  settings.stop_ids = {4};
  settings.max_new_tokens = 10;
  settings.min_new_tokens = 2;
  Sampler::Workspace workspace;
  Sampler sampler(settings, {});
  const std::vector<float> logits = {1, 2, 2, 1.9, 5};
  EXPECT_EQ(sampler.Choose(logits, 10, workspace).value(), 1);
  sampler.Append(1);
  EXPECT_EQ(sampler.Choose(logits, 11, workspace).value(), 2);
  sampler.Append(2);
  EXPECT_EQ(sampler.Choose(logits, 12, workspace).value(), 4);  // two are there: it may stop
  EXPECT_TRUE(sampler.IsStop(4));
  EXPECT_FALSE(sampler.IsStop(3));
}

// Rough sums decide most cases of top-p; these are the others.
TEST(SamplerTest, CutsToTheLastBitOfTopP) {
  SamplingSettings settings;
  settings.temperature = 1;
  Sampler::Workspace workspace;
  for (const size_t ids : {64, 2048, 3000}) {
    const std::vector<float> logits(ids, 3.25f);  // each has a weight of 1
    settings.top_p = 0.5;
    EXPECT_EQ(Sampler(settings, {}).Distribution(logits, workspace)->size(), ids / 2);
    settings.top_p = std::nextafter(0.5, 1);
    EXPECT_EQ(Sampler(settings, {}).Distribution(logits, workspace)->size(), ids / 2 + 1);
  }
}

TEST(SamplerTest, DrawsAsOftenAsTheProbabilitiesSay) {
  SamplingSettings settings;
  settings.temperature = 0.9;
  settings.top_p = 0.95;
  settings.seed = 42;
  Sampler::Workspace workspace;
  const std::vector<float> logits = RandomLogits(5, 40, 1.5);
  const Sampler sampler(settings, {});
  std::map<int32_t, int> counts;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.Choose(logits, i, workspace).value()];
  double chi_square = 0;
  const auto distribution = sampler.Distribution(logits, workspace).value();
  int drawn = 0;
  for (const auto& [id, probability] : distribution) {
    const double expected = probability * kDraws;
    chi_square += (counts[id] - expected) * (counts[id] - expected) / expected;
    drawn += counts[id];
  }
  EXPECT_EQ(drawn, kDraws);  // nothing that was cut
  EXPECT_LT(chi_square, 2.0 * static_cast<double>(distribution.size()));
}

TEST(SamplerTest, AResumedSequenceTossesTheSameCoins) {
  SamplingSettings settings;
  settings.seed = 7;
  settings.repetition_penalty = 1.2;
  Sampler::Workspace workspace;
  Sampler whole(settings, {});
  std::vector<int32_t> tokens;
  for (int i = 0; i < 30; ++i) {
    if (i == 13) {
      // A sampler that takes over here goes on with the same tokens.
      Sampler resumed(settings, tokens);
      Sampler reference = whole;
      for (int j = i; j < 30; ++j) {
        const auto logits = RandomLogits(j, 100, 1);
        const int32_t token = resumed.Choose(logits, 50 + j, workspace).value();
        EXPECT_EQ(token, reference.Choose(logits, 50 + j, workspace).value());
        resumed.Append(token);
        reference.Append(token);
      }
    }
    tokens.push_back(whole.Choose(RandomLogits(i, 100, 1), 50 + i, workspace).value());
    whole.Append(tokens.back());
  }
}

TEST(SamplerTest, RefusesLogitsThatAreNoNumbers) {
  Sampler::Workspace workspace;
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const bool greedy : {false, true}) {
      SamplingSettings settings;
      settings.greedy = greedy;
      std::vector<float> logits(100, 1.0f);
      logits[77] = bad;
      const absl::Status status = Sampler(settings, {}).Choose(logits, 0, workspace).status();
      EXPECT_TRUE(absl::IsInternal(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("id 77"));
    }
  }
}

TEST(SamplerTest, SaysWhenNoIdHasAChance) {
  SamplingSettings settings;
  settings.stop_ids = {0};
  settings.min_new_tokens = 1;
  Sampler::Workspace workspace;
  const std::vector<float> logits = {1, -std::numeric_limits<float>::infinity()};
  for (const int top_k : {0, 1}) {
    for (const double top_p : {0.5, 1.0}) {
      settings.top_k = top_k;
      settings.top_p = top_p;
      EXPECT_TRUE(absl::IsInternal(Sampler(settings, {}).Choose(logits, 0, workspace).status()));
    }
  }
  settings.greedy = true;
  EXPECT_TRUE(absl::IsInternal(Sampler(settings, {}).Choose(logits, 0, workspace).status()));
}

TEST(SamplerTest, AFailureLeavesNoMarksBehind) {
  Sampler::Workspace workspace;
  SamplingSettings settings;
  settings.greedy = true;
  settings.stop_ids = {0};
  settings.min_new_tokens = 1;
  const std::vector<float> logits = {1, -std::numeric_limits<float>::infinity()};
  EXPECT_FALSE(Sampler(settings, {}).Choose(logits, 0, workspace).ok());
  settings.min_new_tokens = 0;
  EXPECT_EQ(Sampler(settings, {}).Choose(logits, 0, workspace).value(), 0);
}

}  // namespace
}  // namespace minicpmv
