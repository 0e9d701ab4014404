#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/safetensors_writer.h"
#include "tests/runtime/base/temp_folder.h"
#include "tests/runtime/checkpoint/safetensors_bytes.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SafetensorsTest : public ::testing::Test {
 protected:
  std::string In(const std::string& file) const { return temp_ / file; }

  void WriteShard(const std::string& file, const std::vector<std::string>& tensors) const {
    SafetensorsWriter writer;
    const float value = 1;
    for (const std::string& tensor : tensors)
      writer.Add(tensor, ConstTensorView(&value, DType::kF32, {1}));
    ASSERT_TRUE(writer.Write(In(file)).ok());
  }
  void WriteIndex(absl::string_view weight_map) const {
    WriteBytes(In("model.safetensors.index.json"),
               absl::StrCat(R"({"metadata": {"total_size": 1}, "weight_map": )", weight_map, "}"));
  }

  absl::Status OpenStatus() const { return OpenSafetensors(folder_).status(); }

  const TempFolder temp_;
  const std::string& folder_ = temp_.path();
};

TEST_F(SafetensorsTest, OpensASingleFile) {
  WriteShard("model.safetensors", {"b", "a"});
  const auto checkpoint = OpenSafetensors(folder_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->names(), ElementsAre("a", "b"));
  EXPECT_EQ((*checkpoint)->path(), folder_);
  EXPECT_EQ((*checkpoint)->bytes(), 8u);
  EXPECT_EQ((*checkpoint)->Find("a")->as<float>()[0], 1);
}

TEST_F(SafetensorsTest, OpensAFileOfAnyNameByItsPath) {
  WriteShard("trace.safetensors", {"a"});
  const auto checkpoint = OpenSafetensors(In("trace.safetensors"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->path(), folder_);
  EXPECT_TRUE((*checkpoint)->Find("a").ok());
}

TEST_F(SafetensorsTest, OpensShardsThroughTheirIndex) {
  WriteShard("m-1.safetensors", {"a", "b"});
  WriteShard("m-2.safetensors", {"c"});
  WriteIndex(R"({"a": "m-1.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"})");
  const auto checkpoint = OpenSafetensors(folder_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->names(), ElementsAre("a", "b", "c"));
  EXPECT_EQ((*checkpoint)->bytes(), 12u);
}

TEST_F(SafetensorsTest, PrefersAWholeFileToAnIndex) {
  WriteShard("model.safetensors", {"whole"});
  WriteIndex(R"({"a": "not_there.safetensors"})");
  const auto checkpoint = OpenSafetensors(folder_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->names(), ElementsAre("whole"));
}

TEST_F(SafetensorsTest, FollowsLinksOutOfTheFolder) {  // as download caches lay their files out
  std::filesystem::create_directory(In("blobs"));
  std::filesystem::create_directory(In("snapshot"));
  WriteShard("blobs/0123", {"a"});
  std::filesystem::create_symlink("../blobs/0123", In("snapshot/model.safetensors"));
  EXPECT_TRUE(OpenSafetensors(In("snapshot")).ok());
}

TEST_F(SafetensorsTest, NamesATensorThatIsMissing) {
  WriteShard("model.safetensors", {"a"});
  EXPECT_EQ((*OpenSafetensors(folder_))->Find("llm.norm").status(),
            absl::NotFoundError(absl::StrCat("no tensor llm.norm in ", folder_)));
}

TEST_F(SafetensorsTest, ListsTensorsThatItDoesNotReadAndSaysWhy) {
  WriteBytes(In("model.safetensors"),
             SafetensorsBytes(
                 R"({"double": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},)"
                 R"( "five": {"dtype": "U8", "shape": [1, 1, 1, 1, 2], "data_offsets": [8, 10]}})",
                 10));
  const auto checkpoint = *OpenSafetensors(folder_);
  EXPECT_THAT(checkpoint->names(), ElementsAre("double", "five"));
  const absl::Status status = checkpoint->Find("double").status();
  EXPECT_TRUE(absl::IsUnimplemented(status));
  EXPECT_THAT(status.message(), HasSubstr("tensor double in "));
  EXPECT_THAT(status.message(), HasSubstr("F64"));
  EXPECT_TRUE(absl::IsUnimplemented(checkpoint->Find("five").status()));
}

TEST_F(SafetensorsTest, CopiesTensorsThatLieBetweenTheirMultiples) {
  const std::string header = R"({"empty": {"dtype": "F32", "shape": [0], "data_offsets": [1, 1]},)"
                             R"( "x": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},)"
                             R"( "byte": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  WriteBytes(In("model.safetensors"), SafetensorsBytes(padded, 9));
  const auto checkpoint = *OpenSafetensors(folder_);
  EXPECT_EQ(checkpoint->Find("empty")->shape, (Shape{0}));
  std::vector<std::thread> threads;
  std::vector<const void*> data(4);
  for (const void*& slot : data) {
    threads.emplace_back([&checkpoint, &slot] { slot = checkpoint->Find("x")->data; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(data, ::testing::Each(data[0]));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(data[0]) % alignof(float), 0u);
  EXPECT_EQ(std::memcmp(data[0], "\1\2\3\4\5\6\7\10", 8), 0);
}

TEST_F(SafetensorsTest, NamesAFolderThatIsNotThere) {
  for (const std::string& path : {In("no_such_folder"), std::string("")}) {
    const absl::Status status = OpenSafetensors(path).status();
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    EXPECT_THAT(status.message(), HasSubstr(absl::StrCat(path, ": no such folder")));
  }
}

TEST_F(SafetensorsTest, NamesWhatAFolderLacks) {
  const absl::Status status = OpenStatus();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr(folder_));
  EXPECT_THAT(status.message(),
              HasSubstr("neither model.safetensors nor model.safetensors.index.json"));
}

TEST_F(SafetensorsTest, RefusesAFileOfAnotherKind) {
  WriteBytes(In("model.gguf"), "GGUF");
  EXPECT_TRUE(absl::IsInvalidArgument(OpenSafetensors(In("model.gguf")).status()));
}

TEST_F(SafetensorsTest, NamesAShardThatIsMissing) {
  WriteShard("m-1.safetensors", {"a"});
  WriteIndex(R"({"a": "m-1.safetensors", "b": "m-2.safetensors"})");
  const absl::Status status = OpenStatus();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr(In("m-2.safetensors")));
}

TEST_F(SafetensorsTest, NamesAFileThatIsCut) {
  WriteShard("model.safetensors", {"a", "b"});
  std::filesystem::resize_file(In("model.safetensors"),
                               std::filesystem::file_size(In("model.safetensors")) - 3);
  const absl::Status status = OpenStatus();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.message(),
              HasSubstr(absl::StrCat(In("model.safetensors"),
                                     ": the file is cut: its tensors take 8 bytes, it holds 5")));
  std::filesystem::resize_file(In("model.safetensors"), 0);
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus()));
}

TEST_F(SafetensorsTest, RefusesAShardThatLacksWhatTheIndexPlacesInIt) {
  WriteShard("m-1.safetensors", {"a"});
  WriteIndex(R"({"a": "m-1.safetensors", "b": "m-1.safetensors"})");
  const absl::Status status = OpenStatus();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.message(),
              HasSubstr(absl::StrCat(In("m-1.safetensors"), ": lacks tensor \"b\"")));
}

TEST_F(SafetensorsTest, RefusesATensorThatTheIndexDoesNotList) {
  WriteShard("m-1.safetensors", {"a", "b"});
  WriteIndex(R"({"a": "m-1.safetensors"})");
  const absl::Status status = OpenStatus();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("holds tensor \"b\""));
}

TEST_F(SafetensorsTest, RefusesATensorInTwoShards) {
  WriteShard("m-1.safetensors", {"a", "b"});
  WriteShard("m-2.safetensors", {"b"});
  WriteIndex(R"({"a": "m-1.safetensors", "b": "m-2.safetensors"})");
  const absl::Status status = OpenStatus();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("holds tensor \"b\""));
  EXPECT_THAT(status.message(), HasSubstr("places in \"m-2.safetensors\""));
}

TEST_F(SafetensorsTest, RefusesAnIndexThatLeavesTheFolder) {
  std::filesystem::create_directory(In("model"));
  WriteShard("outside.safetensors", {"a"});
  WriteBytes(In("model/model.safetensors.index.json"),
             R"({"weight_map": {"a": "../outside.safetensors"}})");
  EXPECT_TRUE(absl::IsInvalidArgument(OpenSafetensors(In("model")).status()));
}

TEST_F(SafetensorsTest, RefusesAFolderInPlaceOfAFile) {
  std::filesystem::create_directory(In("model.safetensors"));
  EXPECT_TRUE(absl::IsInvalidArgument(OpenStatus())) << OpenStatus();
}

// Checkpoints that other software wrote: random ones of every dtype, whole and in shards, and the
// trained one.
struct Written {
  const char* folder;  // below the source folder
  const char* tensor;  // one that it holds, of
  DType dtype;
};
class WrittenByOthersTest : public ::testing::TestWithParam<Written> {};

TEST_P(WrittenByOthersTest, OpensAndAddsUp) {
  const std::string folder = absl::StrCat(MINICPMV_SOURCE_DIR, "/", GetParam().folder);
  ASSERT_TRUE(std::filesystem::exists(folder)) << folder;
  const auto checkpoint = OpenSafetensors(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  uint64_t bytes = 0;
  for (const absl::string_view name : (*checkpoint)->names()) {
    const auto view = (*checkpoint)->Find(name);
    ASSERT_TRUE(view.ok()) << view.status();
    bytes += view->bytes();
    double sum = 0;  // every element can be read, and is finite
    for (int64_t i = 0; i < view->shape.elements(); ++i) {
      switch (view->dtype) {
        case DType::kF32:
          sum += view->as<float>()[i];
          break;
        case DType::kBF16:
          sum += BF16ToFloat(view->as<uint16_t>()[i]);
          break;
        case DType::kF16:
          sum += F16ToFloat(view->as<uint16_t>()[i]);
          break;
        case DType::kI32:
          sum += view->as<int32_t>()[i];
          break;
        case DType::kU8:
          sum += view->as<uint8_t>()[i];
          break;
      }
    }
    EXPECT_TRUE(std::isfinite(sum)) << name;
  }
  EXPECT_EQ(bytes, (*checkpoint)->bytes());
  const auto view = (*checkpoint)->Find(GetParam().tensor);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->dtype, GetParam().dtype);
}

INSTANTIATE_TEST_SUITE_P(
    Checkpoints, WrittenByOthersTest,
    ::testing::Values(Written{"tests/testdata/goldens/v26-mini-bf16/checkpoint",
                              "llm.model.norm.weight", DType::kBF16},
                      Written{"tests/testdata/goldens/v26-mini-f32/checkpoint",
                              "llm.model.norm.weight", DType::kF32},
                      Written{"tests/testdata/goldens/v26-real-geometry-f32/checkpoint",
                              "llm.model.norm.weight", DType::kF32},
                      Written{"tools/nano/model", "llm.model.norm.weight", DType::kBF16}),
    [](const auto& info) {
      std::string name = info.param.folder;
      for (char& c : name) {
        if (c == '-' || c == '/') c = '_';
      }
      return name;
    });

}  // namespace
}  // namespace minicpmv
