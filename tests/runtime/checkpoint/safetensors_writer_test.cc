#include "runtime/checkpoint/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "absl/status/status.h"
#include "runtime/checkpoint/checkpoint.h"
#include "tests/runtime/base/temp_folder.h"

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

class SafetensorsWriterTest : public ::testing::Test {
 protected:
  const TempFolder folder_;
  const std::string path_ = folder_ / "out.safetensors";
};
using SafetensorsWriterDeathTest = SafetensorsWriterTest;

TEST_F(SafetensorsWriterTest, WritesWhatTheCheckpointReads) {
  const uint8_t bytes[3] = {1, 2, 3};
  const uint16_t halves[2] = {0x3f80, 0xffff};
  const float floats[6] = {0.5f, -1, 2, 3, 4, 5};
  const int32_t number = -7;
  SafetensorsWriter writer;
  writer.Add("bytes", ConstTensorView(bytes, DType::kU8, {3}));
  writer.Add("bf16", ConstTensorView(halves, DType::kBF16, {1, 2}));
  writer.Add("f16", ConstTensorView(halves, DType::kF16, {2, 1, 1, 1}));
  writer.Add("a \"name\"\n\xc3\xa9", ConstTensorView(floats, DType::kF32, {2, 3}));
  writer.Add("scalar", ConstTensorView(&number, DType::kI32, {}));
  writer.Add("empty", ConstTensorView(nullptr, DType::kF32, {0, 5}));
  ASSERT_TRUE(writer.Write(path_).ok());

  const auto checkpoint = OpenSafetensors(path_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->names().size(), 6u);
  EXPECT_EQ((*checkpoint)->bytes(), 3u + 4 + 4 + 24 + 4);
  const ConstTensorView view = *(*checkpoint)->Find("a \"name\"\n\xc3\xa9");
  EXPECT_EQ(view.dtype, DType::kF32);
  EXPECT_EQ(view.shape, (Shape{2, 3}));
  EXPECT_EQ(std::memcmp(view.data, floats, sizeof(floats)), 0);
  EXPECT_EQ((*checkpoint)->Find("bytes")->as<uint8_t>()[2], 3);
  EXPECT_EQ((*checkpoint)->Find("bf16")->as<uint16_t>()[0], 0x3f80);
  EXPECT_EQ((*checkpoint)->Find("f16")->shape, (Shape{2, 1, 1, 1}));
  EXPECT_EQ((*checkpoint)->Find("scalar")->as<int32_t>()[0], -7);
  EXPECT_EQ((*checkpoint)->Find("empty")->shape, (Shape{0, 5}));
}

TEST_F(SafetensorsWriterTest, CopiesWhatItIsGiven) {
  float value = 1;
  SafetensorsWriter writer;
  writer.Add("x", ConstTensorView(&value, DType::kF32, {1}));
  value = 2;
  ASSERT_TRUE(writer.Write(path_).ok());
  EXPECT_EQ((*OpenSafetensors(path_))->Find("x")->as<float>()[0], 1);
}

TEST_F(SafetensorsWriterTest, ReplacesAFileUnderAnOpenCheckpoint) {
  float value = 1;
  SafetensorsWriter first, second;
  first.Add("x", ConstTensorView(&value, DType::kF32, {1}));
  ASSERT_TRUE(first.Write(path_).ok());
  const auto old = *OpenSafetensors(path_);
  value = 2;
  second.Add("x", ConstTensorView(&value, DType::kF32, {1}));
  ASSERT_TRUE(second.Write(path_).ok());
  EXPECT_EQ(old->Find("x")->as<float>()[0], 1);
  EXPECT_EQ((*OpenSafetensors(path_))->Find("x")->as<float>()[0], 2);
  EXPECT_FALSE(std::filesystem::exists(path_ + ".part"));
}

TEST_F(SafetensorsWriterTest, NamesThePathThatItCannotWrite) {
  const absl::Status status = SafetensorsWriter().Write("/nowhere/x.safetensors");
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("/nowhere/x.safetensors"));
}

TEST_F(SafetensorsWriterDeathTest, TakesANameOnce) {
  SafetensorsWriter writer;
  writer.Add("x", ConstTensorView(nullptr, DType::kF32, {0}));
  EXPECT_DEATH(writer.Add("x", ConstTensorView(nullptr, DType::kF32, {0})), "x");
}

}  // namespace
}  // namespace minicpmv
