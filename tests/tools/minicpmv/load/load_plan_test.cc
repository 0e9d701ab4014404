#include "tools/minicpmv/load/load_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "runtime/model/prompt.h"

namespace minicpmv {
namespace {

constexpr LoadModel kLarge = {32768, 9, 64};
constexpr LoadModel kNano = {2048, 4, 16};

LoadOptions Many(LoadMix mix) {
  LoadOptions options;
  options.rate = 100;
  options.duration = absl::Seconds(200);
  options.mix = mix;
  return options;
}

// Everything in it.
auto Values(const std::vector<PlannedConversation>& plan) {
  std::vector<double> values;
  for (const PlannedConversation& conversation : plan) {
    values.insert(values.end(), {absl::ToDoubleSeconds(conversation.arrival),
                                 static_cast<double>(conversation.load_class),
                                 static_cast<double>(conversation.max_slices),
                                 static_cast<double>(conversation.text_seed)});
    for (const PlannedTurn& turn : conversation.turns) {
      values.insert(values.end(),
                    {absl::ToDoubleSeconds(turn.think), static_cast<double>(turn.text_tokens),
                     static_cast<double>(turn.output_tokens)});
      for (const PlannedPicture& picture : turn.pictures) {
        values.insert(values.end(),
                      {static_cast<double>(picture.width), static_cast<double>(picture.height),
                       static_cast<double>(picture.seed)});
      }
    }
  }
  return values;
}

double Quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

// Gaps between the arrivals of a plan: their number, mean, and variance against the mean's square.
std::tuple<size_t, double, double> Gaps(const std::vector<PlannedConversation>& plan) {
  double sum = 0, squares = 0, last = 0;
  for (const PlannedConversation& conversation : plan) {
    const double at = absl::ToDoubleSeconds(conversation.arrival);
    EXPECT_GE(at, last);
    sum += at - last;
    squares += (at - last) * (at - last);
    last = at;
  }
  const auto count = static_cast<double>(plan.size());
  const double mean = sum / count;
  return {plan.size(), mean, (squares / count - mean * mean) / (mean * mean)};
}

TEST(LoadPlanTest, IsAFunctionOfItsArguments) {
  LoadOptions options;
  options.rate = 20;
  const std::vector<double> once = Values(PlanLoad(options, kNano));
  EXPECT_EQ(Values(PlanLoad(options, kNano)), once);
  options.seed = 2;
  EXPECT_NE(Values(PlanLoad(options, kNano)), once);
}

TEST(LoadPlanTest, LeavesAClassAsItIsWhateverTheOthersDo) {
  LoadOptions options = Many({1, 0, 0});
  const std::vector<double> alone = Values(PlanLoad(options, kNano));
  options.mix = {1, 1, 0};
  options.rate *= 2;
  std::vector<PlannedConversation> mixed = PlanLoad(options, kNano);
  mixed.erase(std::remove_if(mixed.begin(), mixed.end(),
                             [](const PlannedConversation& conversation) {
                               return conversation.load_class != LoadClass::kText;
                             }),
              mixed.end());
  EXPECT_EQ(Values(mixed), alone);
}

TEST(LoadPlanTest, ArrivesAsAPoissonProcessOrInBursts) {
  LoadOptions options = Many({1, 0, 0});
  const auto [count, mean, spread] = Gaps(PlanLoad(options, kNano));
  EXPECT_NEAR(static_cast<double>(count), 20000, 600);
  EXPECT_NEAR(mean, 0.01, 0.0003);
  EXPECT_NEAR(spread, 1, 0.05);
  options.burstiness = 0.3;
  const auto [bursty_count, bursty_mean, bursty_spread] = Gaps(PlanLoad(options, kNano));
  EXPECT_NEAR(static_cast<double>(bursty_count), 20000, 1200);
  EXPECT_NEAR(bursty_mean, 0.01, 0.0006);
  EXPECT_NEAR(bursty_spread, 1 / 0.3, 0.3);
  options.burstiness = 100;
  EXPECT_NEAR(std::get<2>(Gaps(PlanLoad(options, kNano))), 0.01, 0.001);
}

TEST(LoadPlanTest, SharesTheRateOutByTheMix) {
  std::map<LoadClass, double> counts;
  for (const PlannedConversation& conversation : PlanLoad(Many({6, 3, 1}), kNano)) {
    ++counts[conversation.load_class];
  }
  EXPECT_NEAR(counts[LoadClass::kText], 12000, 500);
  EXPECT_NEAR(counts[LoadClass::kImage], 6000, 400);
  EXPECT_NEAR(counts[LoadClass::kImages], 2000, 200);
}

TEST(LoadPlanTest, FollowsThePublishedLengths) {
  std::vector<double> inputs, outputs;
  double near_mode = 0;
  for (const PlannedConversation& conversation : PlanLoad(Many({1, 0, 0}), kLarge)) {
    const PlannedTurn& turn = conversation.turns.front();
    inputs.push_back(static_cast<double>(turn.text_tokens));
    outputs.push_back(static_cast<double>(turn.output_tokens));
    near_mode += turn.output_tokens > 180 && turn.output_tokens < 220;
  }
  EXPECT_NEAR(Quantile(inputs, .5), 800, 40);
  EXPECT_NEAR(Quantile(inputs, .9), 3000, 200);
  EXPECT_NEAR(Quantile(outputs, .5), 130, 7);
  EXPECT_NEAR(Quantile(outputs, .95), 700, 60);
  EXPECT_GT(near_mode / static_cast<double>(outputs.size()), .12);  // .05 without the mode
}

TEST(LoadPlanTest, FollowsThePublishedPictures) {
  std::vector<double> inputs, outputs, sides;
  for (const PlannedConversation& conversation : PlanLoad(Many({0, 1, 0}), kLarge)) {
    const PlannedTurn& turn = conversation.turns.front();
    ASSERT_EQ(turn.pictures.size(), 1u);
    outputs.push_back(static_cast<double>(turn.output_tokens));
    const PlannedPicture& picture = turn.pictures.front();
    sides.push_back(std::sqrt(double{1} * picture.width * picture.height));
    EXPECT_LE(std::max(picture.width, picture.height),
              1 + 1.34 * std::min(picture.width, picture.height));
  }
  EXPECT_NEAR(Quantile(outputs, .5), 80, 5);
  EXPECT_NEAR(Quantile(outputs, .95), 500, 50);
  EXPECT_NEAR(Quantile(sides, .5), 500, 15);
  EXPECT_NEAR(Quantile(sides, .95), 1000, 50);

  std::map<size_t, double> counts;
  double all = 0;
  for (const PlannedConversation& conversation : PlanLoad(Many({0, 0, 1}), kLarge)) {
    const size_t pictures = conversation.turns.front().pictures.size();
    EXPECT_GT(pictures, 1u);
    EXPECT_LE(pictures, static_cast<size_t>(kMaxImages));
    ++counts[pictures];
    ++all;
  }
  EXPECT_NEAR(counts[4] / all, 5. / 34, .015);
  EXPECT_NEAR(counts[9] / all, 15. / 34, .02);
  EXPECT_NEAR(counts[16] / all, 2. / 34, .01);
  EXPECT_NEAR(counts[25] / all, 5. / 34, .015);
  EXPECT_GT(counts[kMaxImages] / all, 5. / 34);  // the tail, cut
}

TEST(LoadPlanTest, ScalesLengthsAndAreas) {
  LoadOptions options = Many({0, 1, 0});
  options.scale = 0.25;
  std::vector<double> outputs, sides;
  for (const PlannedConversation& conversation : PlanLoad(options, kLarge)) {
    outputs.push_back(static_cast<double>(conversation.turns.front().output_tokens));
    const PlannedPicture& picture = conversation.turns.front().pictures.front();
    sides.push_back(std::sqrt(double{1} * picture.width * picture.height));
  }
  EXPECT_NEAR(Quantile(outputs, .5), 20, 1);
  EXPECT_NEAR(Quantile(sides, .5), 250, 8);
}

TEST(LoadPlanTest, KeepsWithinTheContext) {
  for (const LoadModel& model : {kLarge, kNano, LoadModel{kLeastContext, 4, 16}}) {
    LoadOptions options = Many({1, 1, 1});
    options.turns = 8;
    for (const PlannedConversation& conversation : PlanLoad(options, model)) {
      ASSERT_FALSE(conversation.turns.empty());
      EXPECT_GE(conversation.max_slices, 1);
      EXPECT_LE(conversation.max_slices, model.max_slices);
      const auto pictures = static_cast<int64_t>(conversation.turns.front().pictures.size());
      const int64_t slices = conversation.max_slices > 1 ? conversation.max_slices + 1 : 1;
      int64_t tokens = pictures * slices * model.slice_tokens;
      for (const PlannedTurn& turn : conversation.turns) {
        EXPECT_GE(turn.text_tokens, 1);
        EXPECT_GE(turn.output_tokens, 1);
        tokens += turn.text_tokens + turn.output_tokens;
      }
      EXPECT_LT(tokens, model.context_tokens);
    }
  }
}

TEST(LoadPlanTest, TakesTurnsAndTimeToThink) {
  LoadOptions options = Many({1, 0, 0});
  options.turns = 3;
  options.think = absl::Seconds(2);
  options.scale = 0.01;  // so that no conversation is cut
  double conversations = 0, turns = 0, think = 0;
  for (const PlannedConversation& conversation : PlanLoad(options, kLarge)) {
    ++conversations;
    EXPECT_EQ(conversation.turns.front().think, absl::ZeroDuration());
    for (const PlannedTurn& turn : conversation.turns) {
      ++turns;
      think += absl::ToDoubleSeconds(turn.think);
    }
  }
  EXPECT_NEAR(turns / conversations, 3, .1);
  EXPECT_NEAR(think / (turns - conversations), 2, .1);
  options.turns = 1;
  for (const PlannedConversation& conversation : PlanLoad(options, kLarge)) {
    EXPECT_EQ(conversation.turns.size(), 1u);
  }
}

}  // namespace
}  // namespace minicpmv
