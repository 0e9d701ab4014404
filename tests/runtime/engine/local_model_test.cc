#include "runtime/engine/local_model.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/engine/model_fingerprint.h"

namespace minicpmv {
namespace {

LocalModelOptions Nano() {
  LocalModelOptions options;
  options.folder = absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model");
  options.pages = 64;
  return options;
}

std::unique_ptr<LocalModel> Load(const LocalModelOptions& options) {
  absl::StatusOr<std::unique_ptr<LocalModel>> model = LocalModel::Load(options);
  CHECK(model.ok()) << model.status();
  return *std::move(model);
}

TEST(LocalModelTest, LoadsATowerWithoutAnEngine) {
  LocalModelOptions options = Nano();
  options.parts = {.text = false, .decoder = false, .head = false};
  const auto model = Load(options);
  EXPECT_FALSE(model->has_engine());
  EXPECT_TRUE(model->Vision().ok());
}

TEST(LocalModelTest, IsTheSameModelWhateverOfItIsLoaded) {
  LocalModelOptions tower = Nano();
  tower.parts = {.text = false, .decoder = false, .head = false};
  LocalModelOptions prefill = Nano();
  prefill.parts = {.text = false, .decoder = true, .head = false};
  prefill.devices = {{1}, {1}};
  const auto whole = Load(Nano());
  for (const auto& part : {Load(tower), Load(prefill)}) {
    EXPECT_EQ(part->model_fingerprint(), whole->model_fingerprint());
    EXPECT_EQ(part->layout_fingerprint(), whole->layout_fingerprint());
    EXPECT_EQ(part->numerics_class(), whole->numerics_class());
  }
  EXPECT_EQ(whole->model_fingerprint().size(), 32u);
  EXPECT_EQ(whole->layout_fingerprint().size(), 32u);
  EXPECT_NE(whole->numerics_class(), "");
}

TEST(LocalModelTest, HasAnotherLayoutWithAnotherCacheDtype) {
  LocalModelOptions other = Nano();
  other.kv_dtype = DType::kF32;
  const auto a = Load(Nano()), b = Load(other);
  EXPECT_EQ(a->model_fingerprint(), b->model_fingerprint());
  EXPECT_NE(a->layout_fingerprint(), b->layout_fingerprint());
}

TEST(ModelFingerprintTest, TellsNumbersOfTheConfigurationApart) {
  const auto model = Load(Nano());
  ModelSpec spec = model->spec();
  const std::string before = ModelFingerprint(spec, model->checkpoint());
  EXPECT_EQ(before, model->model_fingerprint());
  spec.language.rope_theta += 1;
  EXPECT_NE(ModelFingerprint(spec, model->checkpoint()), before);
  spec = model->spec();
  spec.preprocess.max_slices += 1;
  EXPECT_NE(ModelFingerprint(spec, model->checkpoint()), before);
}

// A checkpoint of one tensor whose bytes a test changes.
class OneTensor final : public Checkpoint {
 public:
  explicit OneTensor(int64_t elements) : values(static_cast<size_t>(elements)) {}
  absl::StatusOr<ConstTensorView> Find(absl::string_view) const override {
    return ConstTensorView(values.data(), DType::kF32, Shape{static_cast<int64_t>(values.size())});
  }
  std::vector<absl::string_view> names() const override { return {name}; }
  const std::string& path() const override { return name; }
  uint64_t bytes() const override { return values.size() * sizeof(float); }

  std::string name = "weight";
  std::vector<float> values;
};

TEST(ModelFingerprintTest, TellsNamesShapesAndSampledBytesApart) {
  const ModelSpec spec = Load(Nano())->spec();
  OneTensor tensor(100'000);
  const std::string before = ModelFingerprint(spec, tensor);
  for (const size_t place : {size_t{0}, size_t{255}, size_t{33'300}, size_t{99'999}}) {
    tensor.values[place] = 1;
    EXPECT_NE(ModelFingerprint(spec, tensor), before) << place;
    tensor.values[place] = 0;
  }
  EXPECT_EQ(ModelFingerprint(spec, tensor), before);
  tensor.name = "other";
  EXPECT_NE(ModelFingerprint(spec, tensor), before);
  EXPECT_NE(ModelFingerprint(spec, OneTensor(100'001)), before);
}

TEST(ModelFingerprintTest, ReadsSmallTensorsWhole) {
  const ModelSpec spec = Load(Nano())->spec();
  OneTensor tensor(1024);
  const std::string before = ModelFingerprint(spec, tensor);
  for (size_t place = 0; place < 1024; place += 33) {
    tensor.values[place] = 1;
    EXPECT_NE(ModelFingerprint(spec, tensor), before) << place;
    tensor.values[place] = 0;
  }
}

}  // namespace
}  // namespace minicpmv
