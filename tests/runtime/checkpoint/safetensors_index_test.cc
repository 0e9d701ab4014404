#include "runtime/checkpoint/safetensors_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/mapped_file.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(SafetensorsIndexTest, ReadsWhichShardHoldsATensor) {
  const auto index = ParseSafetensorsIndex(
      R"({"metadata": {"total_size": -1}, "weight_map": {"b": "m-2.safetensors", "a": "m-1.safetensors"}})",
      "i.json");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_THAT(*index, ElementsAre(Pair("a", "m-1.safetensors"), Pair("b", "m-2.safetensors")));
}

TEST(SafetensorsIndexTest, RefusesAShardOutsideOfTheFolder) {
  for (const char* shard : {"../m.safetensors", "a/../../m.safetensors", "/etc/passwd", "..", "",
                            "a/..", "a\\u0000b"}) {
    const absl::Status status =
        ParseSafetensorsIndex(absl::StrCat(R"({"weight_map": {"llm.w": ")", shard, "\"}}"),
                              "i.json")
            .status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << shard;
    EXPECT_THAT(status.message(), HasSubstr("i.json: \"weight_map.llm.w\" is \""));
    EXPECT_THAT(status.message(), HasSubstr("no file in the index's own folder"));
  }
  EXPECT_TRUE(ParseSafetensorsIndex(R"({"weight_map": {"w": "..m.safetensors"}})", "i.json").ok());
}

TEST(SafetensorsIndexTest, RefusesOtherForms) {
  for (const char* text :
       {"", "[]", "{}", R"({"weight_map": {}})", R"({"weight_map": []})", R"({"weight_map": null})",
        R"({"weight_map": {"a": 1}})", R"({"weight_map": {"a": null}})",
        R"({"weight_map": {"a": ["m.safetensors"]}})", R"({"weight_map": {"a": "m")"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseSafetensorsIndex(text, "i.json").status())) << text;
  }
}

// The published indexes, where a copy of them is at hand.
TEST(SafetensorsIndexTest, ReadsThePublishedIndexes) {
  const char* const shared = std::getenv("MINICPMV_SHARED");
  const std::filesystem::path hub =
      std::filesystem::path(shared != nullptr ? shared : MINICPMV_SOURCE_DIR "/../shared") / "hub";
  const struct {
    const char* model;
    size_t tensors, shards;
  } published[] = {{"minicpm-v-2.0", 694, 2}, {"minicpm-llama3-v-2.5", 741, 7}};
  for (const auto& [model, tensors, shards] : published) {
    const std::string path = (hub / model / "model.safetensors.index.json").string();
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs " << path;
    const auto index = ParseSafetensorsIndex(*ReadFile(path, 1 << 20), path);
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_EQ(index->size(), tensors);
    std::set<std::string> files;
    for (const auto& [tensor, file] : *index) files.insert(file);
    EXPECT_EQ(files.size(), shards);
  }
}

}  // namespace
}  // namespace minicpmv
