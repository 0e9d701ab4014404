#include "tools/minicpmv/work_count.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace minicpmv {
namespace {

class WorkCountTest : public ::testing::Test {
 protected:
  const std::string folder_ = absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model");
  const ModelSpec spec_ = ReadModelSpec(folder_).value();
  const std::unique_ptr<Checkpoint> checkpoint_ = OpenSafetensors(folder_).value();
};

// Five layers of width 128: q and o 128, k and v 64, gate, up and down 384 wide; a head of 504.
constexpr double kLayerProducts = 128.0 * (128 + 128 + 64 + 64 + 3 * 384);

TEST_F(WorkCountTest, CountsWeightsOnceAndTheCacheByPosition) {
  const double empty = DecodeStepBytes(*checkpoint_, spec_, DType::kBF16, 0).value();
  EXPECT_EQ(empty, 2 * (5 * kLayerProducts + 504 * 128));
  EXPECT_EQ(DecodeStepBytes(*checkpoint_, spec_, DType::kBF16, 10).value() - empty, 10 * 1280);
  EXPECT_EQ(DecodeStepBytes(*checkpoint_, spec_, DType::kF32, 10).value() - empty, 10 * 2560);
}

TEST_F(WorkCountTest, CountsProductsAndPairsOfAPrompt) {
  EXPECT_EQ(PrefillFlops(spec_, 1), 5 * (2 * kLayerProducts + 4 * 128));
  EXPECT_EQ(PrefillFlops(spec_, 3), 5 * (6 * kLayerProducts + 4 * 6 * 128));
}

TEST_F(WorkCountTest, CountsTowerAndResampler) {
  const double tower = 2 * 588 * 96 + 4 * (2 * (4.0 * 96 * 96 + 2 * 96 * 288) + 4 * 96);
  const double resampler = 2 * (96 * 128 + 2.0 * 128 * 128) + 4 * 16 * 128 + 4.0 * 16 * 128 * 128;
  EXPECT_EQ(VisionFlops(spec_, 1), tower + resampler);
}

TEST_F(WorkCountTest, FindsNearlyTheWholeFileInOneRun) {
  const absl::Span<const uint8_t> run = LongestMappedRun(*checkpoint_, UINT64_MAX);
  EXPECT_GE(run.size(), checkpoint_->bytes());
  EXPECT_LE(run.size(), checkpoint_->bytes() + 100'000);
  EXPECT_EQ(LongestMappedRun(*checkpoint_, 1000).size(), 1000u);
}

}  // namespace
}  // namespace minicpmv
