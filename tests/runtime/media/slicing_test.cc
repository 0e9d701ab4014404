#include "runtime/media/slicing.h"

#include "gtest/gtest.h"
#include "tests/runtime/media/media_files.h"

namespace minicpmv {
namespace {

SliceRule RuleOf(const nlohmann::json& expected) {
  SliceRule rule;
  rule.scale_resolution = expected["scale_resolution"];
  rule.patch_size = expected["patch_size"];
  rule.max_slices = expected["max_slice_nums"];
  return rule;
}

void ExpectSize(Size size, const nlohmann::json& expected, const nlohmann::json& about) {
  if (expected.is_null()) {
    EXPECT_EQ(size.width, 0) << about;
    EXPECT_EQ(size.height, 0) << about;
    return;
  }
  EXPECT_EQ(size.width, expected[0].get<int>()) << about;
  EXPECT_EQ(size.height, expected[1].get<int>()) << about;
}

TEST(SlicingTest, EqualsTheOriginalOnEveryVector) {
  int cases = 0;
  const nlohmann::json all = TestJson("spec/slicing-vectors.json");
  for (const nlohmann::json& expected : all["cases"]) {
    ++cases;
    const absl::StatusOr<SlicePlan> plan =
        PlanSlices({expected["width"], expected["height"]}, RuleOf(expected));
    ASSERT_TRUE(plan.ok()) << plan.status() << expected;
    ExpectSize({plan->grid_columns, plan->grid_rows}, expected["best_grid"], expected);
    ExpectSize(plan->overview, expected["source_size"], expected);
    ExpectSize(plan->refined, expected["refine_size"], expected);
    ExpectSize(plan->slice, expected["slice_size"], expected);
    ASSERT_EQ(plan->sub_images(), static_cast<int>(expected["tgt_sizes"].size())) << expected;
    for (int i = 0; i < plan->sub_images(); ++i) {
      EXPECT_EQ(plan->patches(i).rows, expected["tgt_sizes"][i][0].get<int>()) << expected;
      EXPECT_EQ(plan->patches(i).columns, expected["tgt_sizes"][i][1].get<int>()) << expected;
    }
  }
  EXPECT_EQ(cases, 536);
}

TEST(SlicingTest, PassesThePictureThroughWithoutSliceMode) {
  SliceRule rule;
  rule.slice_mode = false;
  const absl::StatusOr<SlicePlan> plan = PlanSlices({1000, 421}, rule);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->sub_images(), 1);
  EXPECT_EQ(plan->patches(0).rows, 30);
  EXPECT_EQ(plan->patches(0).columns, 71);
  const Image image = SyntheticImage(1000, 421);
  const std::vector<Image> sub_images = CutSubImages(image, *plan);
  ASSERT_EQ(sub_images.size(), 1u);
  EXPECT_EQ(sub_images[0].rgb, image.rgb);
}

TEST(SlicingTest, RefusesWhatIsSmallerThanAPatchWithoutSliceMode) {
  SliceRule rule;
  rule.slice_mode = false;
  EXPECT_EQ(PlanSlices({13, 1000}, rule).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SlicingTest, TakesTheNarrowestAndRefusesTooManyPatches) {
  EXPECT_TRUE(PlanSlices({1, 1}, {}).ok());
  EXPECT_TRUE(PlanSlices({1, 30000}, {}).ok());
  EXPECT_TRUE(PlanSlices({30000, 1}, {}).ok());
  EXPECT_EQ(PlanSlices({3, 1000000}, {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(PlanSlices({1, 2147483647}, {}).status().code(), absl::StatusCode::kInvalidArgument);
  // The original cuts the height to 0, and then the width with it: one patch.
  const absl::StatusOr<SlicePlan> wide = PlanSlices({1000000, 3}, {});
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_EQ(wide->patches(0).columns, 1);
  EXPECT_TRUE(PlanSlices({2147483647, 1}, {}).ok());
  SliceRule whole;
  whole.slice_mode = false;
  EXPECT_TRUE(PlanSlices({128 * 14, 128 * 14}, whole).ok());
  EXPECT_EQ(PlanSlices({128 * 14, 129 * 14}, whole).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SlicingTest, SurvivesRulesThatNobodyMeans) {
  for (const int number : {-2147483647, -1, 0}) {
    EXPECT_EQ(PlanSlices({640, 480}, {.scale_resolution = number}).status().code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(PlanSlices({640, 480}, {.patch_size = number}).status().code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(PlanSlices({640, 480}, {.max_slices = number}).status().code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(PlanSlices({number, 480}, {}).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(PlanSlices({640, number}, {}).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_FALSE(PlanSlices({640, 480}, {.scale_resolution = 2147483647}).ok());
  EXPECT_FALSE(
      PlanSlices({640, 480}, {.scale_resolution = 2147483647, .patch_size = 2147483647}).ok());
  EXPECT_FALSE(PlanSlices({640, 480}, {.patch_size = 2147483647}).ok());
  EXPECT_FALSE(
      PlanSlices({32768, 1024}, {.scale_resolution = 1, .patch_size = 1, .max_slices = 2147483647})
          .ok());
}

TEST(SlicingTest, CutsSlicesRowByRow) {
  const SlicePlan plan{{6, 4}, 3, 2, {6, 4}, {2, 2}, 2};
  const Image image = SyntheticImage(6, 4);
  const std::vector<Image> sub_images = CutSubImages(image, plan);
  ASSERT_EQ(sub_images.size(), 7u);
  EXPECT_EQ(sub_images[0].rgb, image.rgb);
  for (int i = 0; i < 6; ++i) {
    const Image& slice = sub_images[1 + i];
    ASSERT_EQ(slice.rgb.size(), 12u);
    for (int y = 0; y < 2; ++y) {
      for (int b = 0; b < 6; ++b) {
        EXPECT_EQ(slice.rgb[6 * y + b], image.rgb[(i / 3 * 2 + y) * 18 + i % 3 * 6 + b]) << i;
      }
    }
  }
}

}  // namespace
}  // namespace minicpmv
