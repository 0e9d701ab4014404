#include "runtime/media/patches.h"

#include "gtest/gtest.h"
#include "runtime/media/slicing.h"
#include "tests/runtime/media/media_files.h"

namespace minicpmv {
namespace {

constexpr float kHalves[] = {0.5f, 0.5f, 0.5f};

TEST(PatchRowsTest, EqualsTheOriginalsWholePathFromPixelsToPatches) {
  constexpr int kPatch = 14;
  int cases = 0;
  const nlohmann::json all = TestJson("spec/preprocess-vectors.json");
  for (const nlohmann::json& expected : all["cases"]) {
    ++cases;
    const Image image = SyntheticImage(expected["width"], expected["height"]);
    const absl::StatusOr<SlicePlan> plan = PlanSlices({image.width, image.height}, {});
    ASSERT_TRUE(plan.ok()) << plan.status();
    const std::vector<Image> sub_images = CutSubImages(image, *plan);
    ASSERT_EQ(sub_images.size(), expected["sub_images"].size());
    for (size_t i = 0; i < sub_images.size(); ++i) {
      const nlohmann::json& sub_image = expected["sub_images"][i];
      const PatchGrid grid = plan->patches(static_cast<int>(i));
      ASSERT_EQ(grid.rows, sub_image["rows"].get<int>());
      ASSERT_EQ(grid.columns, sub_image["cols"].get<int>());
      std::vector<float> patches(size_t{3} * kPatch * kPatch * grid.rows * grid.columns);
      PatchRows(sub_images[i], kPatch, kHalves, kHalves, patches.data());
      double sum = 0;
      for (const float value : patches) sum += value;
      EXPECT_NEAR(sum / patches.size(), sub_image["mean"].get<double>(), 1e-6);
      for (const nlohmann::json& sample : sub_image["samples"]) {
        // The original lays patches side by side: [channel][y][patch * 14 + x].
        const int patch = sample["x"].get<int>() / kPatch;
        const int x = sample["x"].get<int>() % kPatch;
        const int at =
            ((patch * 3 + sample["c"].get<int>()) * kPatch + sample["y"].get<int>()) * kPatch + x;
        EXPECT_EQ(patches[at], static_cast<float>(sample["value"].get<double>())) << sample;
      }
    }
  }
  EXPECT_EQ(cases, 4);
}

TEST(PatchRowsTest, NormalisesEachChannelByItsOwnNumbers) {
  const Image pixel{1, 1, {0, 51, 255}};
  const float mean[] = {0.25f, 0.5f, 0.1f};
  const float std[] = {0.5f, 0.25f, 2.0f};
  float out[3];
  PatchRows(pixel, 1, mean, std, out);
  EXPECT_EQ(out[0], (0.0f / 255.0f - 0.25f) / 0.5f);
  EXPECT_EQ(out[1], (51.0f / 255.0f - 0.5f) / 0.25f);
  EXPECT_EQ(out[2], (255.0f / 255.0f - 0.1f) / 2.0f);
}

TEST(PatchRowsTest, LeavesOutWhatFillsNoPatch) {
  const Image image = SyntheticImage(5, 3);
  std::vector<float> out(2 * 12 + 1, -9);
  PatchRows(image, 2, kHalves, kHalves, out.data());
  EXPECT_EQ(out.back(), -9);
  const auto normalised = [&](int x, int y, int c) {
    return (static_cast<float>(image.rgb[(y * 5 + x) * 3 + c]) / 255.0f - 0.5f) / 0.5f;
  };
  for (int p = 0; p < 2; ++p) {
    for (int i = 0; i < 12; ++i)
      EXPECT_EQ(out[p * 12 + i], normalised(2 * p + i % 2, i / 2 % 2, i / 4));
  }
}

}  // namespace
}  // namespace minicpmv
