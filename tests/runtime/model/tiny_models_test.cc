// Small networks with weights by formula, run through the original code: tower and resampler alone.
#include "gtest/gtest.h"
#include "tests/runtime/model/memory_checkpoint.h"
#include "tests/runtime/model/model_fixture.h"

namespace minicpmv {
namespace {

class TinyModelsTest : public ::testing::TestWithParam<std::string> {};

void AddParameters(const nlohmann::json& part, const std::string& prefix, MemoryCheckpoint& checkpoint) {
  for (const nlohmann::json& parameter : part["parameters"]) {
    Shape shape;
    for (const int64_t size : parameter[1]) shape.Append(size);
    checkpoint.Add(prefix + parameter[0].get<std::string>(), shape,
                   MemoryCheckpoint::Wave(shape.elements(), parameter[2], parameter[3], parameter[4]));
  }
}

TEST_P(TinyModelsTest, TowerAndResamplerAnswerAsTheOriginal) {
  const nlohmann::json vectors = ReadJson(TestData("spec/tiny-model-vectors.json"));
  MemoryCheckpoint checkpoint;
  AddParameters(vectors["vision"], "vpm.", checkpoint);
  AddParameters(vectors["resampler_v26"], "resampler.", checkpoint);
  ModelSpec spec;
  spec.family = &Families()[0];
  spec.vision = {.hidden = 32, .intermediate = 48, .layers = 2, .heads = 2, .patch_size = 14, .table_side = 70, .norm_epsilon = 1e-6f};
  spec.resampler = {.queries = 4, .heads = 2, .norm_epsilon = 1e-6f};
  spec.language.hidden = 256;
  CpuDevice device("cpu:0", 2);
  const std::unique_ptr<Kernels> kernels = KernelsNamed(GetParam(), device);
  const std::unique_ptr<VisionEncoder> encoder = Must(VisionEncoder::Load(checkpoint, spec, device, *kernels));

  // Both together and each first: what is seen of the tower is the first one's.
  for (const bool second_first : {false, true}) {
    std::vector<PatchedImage> grids;
    for (int i = 0; i < 2; ++i) {
      PatchedImage grid = i == 0 ? PatchedImage{2, 3, {}} : PatchedImage{3, 3, {}};
      const int64_t patches = int64_t{grid.rows} * grid.columns;
      const std::vector<float> strip = MemoryCheckpoint::Wave(3 * 14 * 14 * patches, 100 + i, 1, 0);
      grid.patches.resize(strip.size());
      for (int64_t c = 0; c < 3; ++c) {
        for (int64_t y = 0; y < 14; ++y) {
          for (int64_t x = 0; x < 14 * patches; ++x) {
            grid.patches[((x / 14) * 3 + c) * 196 + y * 14 + x % 14] = strip[(c * 14 + y) * 14 * patches + x];
          }
        }
      }
      grids.push_back(std::move(grid));
    }
    if (second_first) std::swap(grids[0], grids[1]);
    std::vector<float> rows(2 * 4 * 256), tower;
    const auto watch = [&](const std::string& name, ConstTensorView values) {
      if (name != "vision.0.out") return;
      tower.resize(static_cast<size_t>(values.shape.elements()));
      kernels->Cast(values, TensorView(tower.data(), DType::kF32, values.shape));
    };
    const ActivationObserver observer = watch;
    ASSERT_TRUE(encoder->EncodePatched(grids, TensorView(rows.data(), DType::kF32, Shape{8, 256}), &observer).ok());

    const nlohmann::json& patches = vectors["vision"][second_first ? "v26_subimage1_patches" : "v26_subimage0_patches"];
    const size_t count = tower.size() / 32;
    const size_t recorded[] = {0, count / 2, count - 1};
    ASSERT_EQ(patches.size(), std::size(recorded));
    for (size_t p = 0; p < patches.size(); ++p) {
      for (size_t i = 0; i < 32; ++i) EXPECT_NEAR(tower[recorded[p] * 32 + i], patches[p][i].get<float>(), 2e-5) << p << "," << i;
    }
    for (int image = 0; image < 2; ++image) {
      const std::string name = std::to_string(second_first ? 1 - image : image);
      const nlohmann::json& want = vectors["resampler_v26"]["output_subimage" + name + "_query"];
      for (size_t q = 0; q < want.size(); ++q) {
        for (size_t i = 0; i < want[q].size(); ++i) {
          EXPECT_NEAR(rows[(image * 4 + q) * 256 + i], want[q][i].get<float>(), 5e-5) << name << ": " << q << "," << i;
        }
      }
      double sum = 0;
      for (int i = 0; i < 4 * 256; ++i) sum += rows[image * 4 * 256 + i];
      EXPECT_NEAR(sum, vectors["resampler_v26"]["sum_all_subimage" + name].get<double>(), 5e-3);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, TinyModelsTest, ::testing::Values("reference", "cpu"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace minicpmv
