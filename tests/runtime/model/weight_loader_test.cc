#include "runtime/model/weight_loader.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/model/memory_checkpoint.h"
#include "tests/runtime/model/model_fixture.h"

namespace minicpmv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class WeightLoaderTest : public ::testing::Test {
 protected:
  WeightLoaderTest() {
    checkpoint_.Add("a.3.weight", Shape{2, 3}, {1, 2, 3, 4, 5, 6});
    checkpoint_.Add("v", Shape{4}, {1, 2, 3, 4});
  }
  MemoryCheckpoint checkpoint_;
  CpuDevice device_{"cpu:0", 1};
  ReferenceKernels kernels_{device_};
  WeightLoader loader_{checkpoint_, kernels_};
};

TEST_F(WeightLoaderTest, PutsTheLayerIntoTheName) {
  EXPECT_EQ(Must(loader_.Matrix("a.{}.weight", 3, 2, 3)).view.as<float>()[5], 6);
  EXPECT_EQ(loader_.Matrix("a.{}.weight", 4, 2, 3).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(WeightLoaderTest, TakesPartsAndTransposes) {
  EXPECT_EQ(Must(loader_.MatrixRows("a.3.weight", 2, 3, 1, 1)).view.as<float>()[0], 4);
  EXPECT_EQ(Must(loader_.VectorPart("v", 4, 2, 2)).view.as<float>()[0], 3);
  const Weight transposed = Must(loader_.Transposed("a.3.weight", 2, 3));
  EXPECT_EQ(transposed.view.shape, (Shape{3, 2}));
  EXPECT_EQ(transposed.view.as<float>()[1], 4);
}

TEST_F(WeightLoaderTest, NamesTensorAndBothShapes) {
  const absl::Status status = loader_.Matrix("a.{}.weight", 3, 3, 2).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("a.3.weight"), HasSubstr("[2, 3]"), HasSubstr("[3, 2]")));
}

// Every tensor of the nano model, one after the other: missing, and of a wrong shape.
TEST(LoadingTest, MissesAnyTensor) {
  const std::string folder = absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model");
  const ModelSpec spec = Must(ReadModelSpec(folder));
  const std::unique_ptr<Checkpoint> real = Must(OpenSafetensors(folder));
  CpuDevice device("cpu:0", 1);
  ReferenceKernels kernels(device);
  const auto load = [&](const Checkpoint& checkpoint) -> absl::Status {
    const absl::Status vision = VisionEncoder::Load(checkpoint, spec, device, kernels).status();
    if (!vision.ok()) return vision;
    return Decoder::Load(checkpoint, spec, device, kernels, {.layers = {0, 5}, .max_rows = 1, .max_logit_rows = 1}).status();
  };
  MemoryCheckpoint whole;
  for (const absl::string_view name : real->names()) {
    const Shape shape = Must(real->Find(name)).shape;
    whole.Add(std::string(name), shape, std::vector<float>(static_cast<size_t>(shape.elements())));
  }
  ASSERT_TRUE(load(whole).ok());
  for (const absl::string_view name : real->names()) {
    MemoryCheckpoint lacking = whole;
    lacking.Remove(std::string(name));
    const absl::Status missing = load(lacking);
    EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound) << name;
    EXPECT_THAT(missing.message(), HasSubstr(std::string(name)));
    lacking.Add(std::string(name), Shape{1, 1}, {0});
    const absl::Status wrong = load(lacking);
    EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(wrong.message(), HasSubstr(std::string(name)));
  }
}

}  // namespace
}  // namespace minicpmv
