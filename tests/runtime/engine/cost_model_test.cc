#include "runtime/engine/cost_model.h"

#include <gtest/gtest.h>

#include <random>

namespace minicpmv {
namespace {

StepSize Size(int64_t rows, int64_t attended) { return {rows, attended}; }

double Seconds(const CostModel& model, int64_t rows, int64_t attended) {
  return absl::ToDoubleSeconds(model.Predict(Size(rows, attended)));
}

TEST(StepSizeTest, CountsWhatEachRowSees) {
  StepSize size;
  size.Add(0, 3);  // 1 + 2 + 3
  EXPECT_EQ(size.attended, 6);
  size.Add(10, 2);  // 11 + 12
  EXPECT_EQ(size.rows, 5);
  EXPECT_EQ(size.attended, 29);
}

TEST(CostModelTest, ExpectsNothingBeforeItMeasured) {
  EXPECT_EQ(CostModel().Predict(Size(512, 100000)), absl::ZeroDuration());
}

TEST(CostModelTest, FindsTheThreePartsOfATime) {
  CostModel model;
  std::mt19937 random(3);
  for (int i = 0; i < 200; ++i) {
    const int64_t rows = 1 + random() % 500;
    const int64_t attended = rows * (1 + random() % 2000);
    model.Measure(Size(rows, attended), absl::Seconds(0.8 + 0.1 * static_cast<double>(rows) +
                                                      1e-6 * static_cast<double>(attended)));
  }
  EXPECT_NEAR(Seconds(model, 1, 1), 0.9, 0.01);
  EXPECT_NEAR(Seconds(model, 400, 400000), 0.8 + 40 + 0.4, 0.1);
}

TEST(CostModelTest, NeverExpectsLessForMore) {
  std::mt19937 random(5);
  for (int run = 0; run < 100; ++run) {
    CostModel model;
    for (int i = 0; i < 30; ++i) {  // noise that says nothing
      model.Measure(Size(1 + random() % 600, 1 + random() % 1000000),
                    absl::Microseconds(1 + random() % 1000000));
      const double small = Seconds(model, 5, 100);
      EXPECT_GE(small, 0);
      EXPECT_GE(Seconds(model, 6, 100), small);
      EXPECT_GE(Seconds(model, 5, 200), small);
    }
  }
}

TEST(CostModelTest, RemembersWhatPromptsCostThroughALongTimeOfDecoding) {
  CostModel model;
  model.Measure(Size(512, 512 * 256), absl::Seconds(60));
  for (int i = 0; i < 5000; ++i) model.Measure(Size(8, 8 * (512 + i)), absl::Seconds(1));
  EXPECT_NEAR(Seconds(model, 512, 512 * 256), 60, 6);
  EXPECT_NEAR(Seconds(model, 8, 8 * 3000), 1, 0.1);
}

TEST(CostModelTest, FollowsAMachineThatBecomesSlower) {
  CostModel model;
  for (int i = 0; i < 300; ++i) model.Measure(Size(1, 100), absl::Milliseconds(10));
  for (int i = 0; i < 300; ++i) model.Measure(Size(1, 100), absl::Milliseconds(30));
  EXPECT_NEAR(Seconds(model, 1, 100), 0.03, 0.002);
}

TEST(CostModelTest, PassesOverTimesThatAreNone) {
  CostModel model;
  model.Measure(Size(1, 1), absl::ZeroDuration());
  model.Measure(Size(1, 1), -absl::Seconds(1));
  model.Measure(Size(1, 1), absl::InfiniteDuration());
  model.Measure(Size(0, 0), absl::Seconds(1));
  EXPECT_EQ(model.Predict(Size(1, 1)), absl::ZeroDuration());
}

}  // namespace
}  // namespace minicpmv
