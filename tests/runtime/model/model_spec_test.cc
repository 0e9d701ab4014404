#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/model/model_fixture.h"

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

// A folder with the nano model's configuration files, to be changed by tests.
class ModelSpecTest : public ::testing::Test {
 protected:
  ModelSpecTest() : folder_(::testing::TempDir() + "spec_" + ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    for (const char* name : {"config.json", "preprocessor_config.json", "generation_config.json"}) {
      std::filesystem::copy(absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model/", name), absl::StrCat(folder_, "/", name));
    }
  }
  ~ModelSpecTest() override { std::filesystem::remove_all(folder_); }

  void Change(const std::string& file, const std::string& pointer, const nlohmann::json& value) {
    nlohmann::json json = ReadJson(absl::StrCat(folder_, "/", file));
    json[nlohmann::json::json_pointer(pointer)] = value;
    std::ofstream(absl::StrCat(folder_, "/", file)) << json;
  }

  void ExpectRefused(absl::StatusCode code, const std::string& file, const std::string& pointer, const nlohmann::json& value,
                     const std::string& words) {
    const nlohmann::json before = ReadJson(absl::StrCat(folder_, "/", file));
    Change(file, pointer, value);
    const absl::Status status = ReadModelSpec(folder_).status();
    EXPECT_EQ(status.code(), code) << pointer << ": " << status;
    EXPECT_THAT(status.message(), HasSubstr(words));
    EXPECT_THAT(status.message(), HasSubstr(file));
    std::ofstream(absl::StrCat(folder_, "/", file)) << before;
  }

  const std::string folder_;
};

TEST_F(ModelSpecTest, ReadsTheNanoModel) {
  const ModelSpec spec = Must(ReadModelSpec(folder_));
  EXPECT_EQ(spec.family->name, "MiniCPM-V 2.6");
  EXPECT_EQ(spec.dtype, DType::kBF16);
  EXPECT_EQ(spec.language.hidden, 128);
  EXPECT_EQ(spec.language.head_size, 32);
  EXPECT_EQ(spec.language.kv_heads, 2);
  EXPECT_EQ(spec.language.max_positions, 2048);
  EXPECT_EQ(spec.vision.layers, 4);
  EXPECT_EQ(spec.vision.table_side, 16);
  EXPECT_EQ(spec.resampler.queries, 16);
  EXPECT_EQ(spec.resampler.heads, 1);
  EXPECT_EQ(spec.preprocess.max_slices, 4);
  EXPECT_EQ(spec.generation.top_k, 1);
  EXPECT_EQ(spec.generation.repetition_penalty, 1.0);
  EXPECT_EQ(spec.generation.temperature, 0.7);  // not stated: the family's
}

TEST_F(ModelSpecTest, TakesTheFamilysGenerationWithoutAFile) {
  std::filesystem::remove(absl::StrCat(folder_, "/generation_config.json"));
  const ModelSpec spec = Must(ReadModelSpec(folder_));
  EXPECT_EQ(spec.generation.top_k, 100);
  EXPECT_EQ(spec.generation.top_p, 0.8);
  EXPECT_EQ(spec.generation.repetition_penalty, 1.05);
  EXPECT_EQ(spec.generation.max_new_tokens, 2048);
}

TEST_F(ModelSpecTest, DropsTheTowersLastLayerUnlessTold) {
  nlohmann::json config = ReadJson(absl::StrCat(folder_, "/config.json"));
  config.erase("drop_vision_last_layer");
  std::ofstream(absl::StrCat(folder_, "/config.json")) << config;
  EXPECT_EQ(Must(ReadModelSpec(folder_)).vision.layers, 3);
}

TEST_F(ModelSpecTest, RefusesFamiliesAndFeaturesItDoesNotCompute) {
  const auto code = absl::StatusCode::kUnimplemented;
  ExpectRefused(code, "config.json", "/model_type", "llava", "model_type");
  ExpectRefused(code, "config.json", "/version", 2.5, "version");
  ExpectRefused(code, "config.json", "/version", "2.5", "\"2.5\"");
  ExpectRefused(code, "config.json", "/version", 9000, "version");
  ExpectRefused(code, "config.json", "/use_sliding_window", true, "use_sliding_window");
  ExpectRefused(code, "config.json", "/rope_scaling", {{"type", "yarn"}}, "rope_scaling");
  ExpectRefused(code, "config.json", "/quantization_config", {{"load_in_4bit", true}}, "quantization_config");
  ExpectRefused(code, "config.json", "/hidden_act", "relu", "hidden_act");
  ExpectRefused(code, "config.json", "/vision_config/hidden_act", "relu", "hidden_act");
}

TEST_F(ModelSpecTest, NamesFileAndFieldOfABadValue) {
  const auto code = absl::StatusCode::kInvalidArgument;
  ExpectRefused(code, "config.json", "/hidden_size", -1, "hidden_size");
  ExpectRefused(code, "config.json", "/hidden_size", 1e18, "hidden_size");
  ExpectRefused(code, "config.json", "/hidden_size", "128", "hidden_size");
  ExpectRefused(code, "config.json", "/hidden_size", 192, "hidden_size");  // no multiple of the resampler's heads
  ExpectRefused(code, "config.json", "/num_attention_heads", 3, "num_attention_heads");
  ExpectRefused(code, "config.json", "/num_attention_heads", 0, "num_attention_heads");
  ExpectRefused(code, "config.json", "/num_key_value_heads", 3, "num_key_value_heads");
  ExpectRefused(code, "config.json", "/max_position_embeddings", 4'000'000, "max_position_embeddings");
  ExpectRefused(code, "config.json", "/rope_theta", 0, "rope_theta");
  ExpectRefused(code, "config.json", "/rope_theta", 1e300, "rope_theta");
  ExpectRefused(code, "config.json", "/torch_dtype", "int4", "torch_dtype");
  ExpectRefused(code, "config.json", "/vision_config", 7, "vision_config");
  ExpectRefused(code, "config.json", "/vision_config/patch_size", 0, "patch_size");
  ExpectRefused(code, "config.json", "/vision_config/image_size", 1, "image_size");
  ExpectRefused(code, "preprocessor_config.json", "/patch_size", 16, "patch_size");
  ExpectRefused(code, "preprocessor_config.json", "/image_feature_size", 64, "image_feature_size");
  ExpectRefused(code, "preprocessor_config.json", "/use_image_id", false, "use_image_id");
  ExpectRefused(code, "preprocessor_config.json", "/slice_mode", false, "slice_mode");
  ExpectRefused(code, "preprocessor_config.json", "/max_slice_nums", 9, "max_slice_nums");
  ExpectRefused(code, "preprocessor_config.json", "/norm_std", {0.5, 0, 0.5}, "norm_std");
  ExpectRefused(code, "preprocessor_config.json", "/norm_mean", {0.5, 0.5}, "norm_mean");
  ExpectRefused(code, "generation_config.json", "/top_p", 1.5, "top_p");
  ExpectRefused(code, "generation_config.json", "/temperature", 0, "temperature");
  ExpectRefused(code, "generation_config.json", "/repetition_penalty", -1, "repetition_penalty");
  ExpectRefused(code, "generation_config.json", "/top_k", -1, "top_k");
  ExpectRefused(code, "generation_config.json", "/max_new_tokens", 0, "max_new_tokens");
}

TEST_F(ModelSpecTest, RefusesNaN) {
  std::ofstream(absl::StrCat(folder_, "/config.json")) << R"({"model_type": "minicpmv", "version": NaN})";
  EXPECT_EQ(ReadModelSpec(folder_).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ModelSpecTest, NamesWhatIsMissing) {
  EXPECT_EQ(ReadModelSpec(folder_ + "/nowhere").status().code(), absl::StatusCode::kNotFound);
  std::filesystem::remove(absl::StrCat(folder_, "/preprocessor_config.json"));
  const absl::Status status = ReadModelSpec(folder_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("preprocessor_config.json"));
}

}  // namespace
}  // namespace minicpmv
