#include "runtime/checkpoint/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/runtime/checkpoint/safetensors_bytes.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<std::vector<SafetensorsEntry>> Parse(absl::string_view file) {
  return ParseSafetensorsHeader({reinterpret_cast<const uint8_t*>(file.data()), file.size()},
                                "m.safetensors");
}

// Expects DATA_LOSS, in words that name the file and hold `words`.
void ExpectRefused(absl::string_view header, size_t data_bytes, absl::string_view words) {
  const absl::Status status = Parse(SafetensorsBytes(header, data_bytes)).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status << " for " << header;
  EXPECT_THAT(status.message(), HasSubstr("m.safetensors: "));
  EXPECT_THAT(status.message(), HasSubstr(std::string(words))) << header;
}

TEST(SafetensorsHeaderTest, ReadsEntriesInTheOrderOfTheirData) {
  const std::string header =
      R"({"__metadata__": {"format": "pt"}, "z": {"dtype": "F32", "shape": [1, 2], "data_offsets": [6, 14]},)"
      R"( "a": {"data_offsets": [0, 6], "shape": [3], "dtype": "BF16"}}   )";
  const auto entries = Parse(SafetensorsBytes(header, 14));
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2u);
  const SafetensorsEntry& a = (*entries)[0];
  const SafetensorsEntry& z = (*entries)[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, "BF16");
  EXPECT_THAT(a.shape, ElementsAre(3));
  EXPECT_EQ(a.begin, 8 + header.size());
  EXPECT_EQ(a.end, a.begin + 6);
  EXPECT_EQ(z.name, "z");
  EXPECT_THAT(z.shape, ElementsAre(1, 2));
  EXPECT_EQ(z.end, 8 + header.size() + 14);
}

TEST(SafetensorsHeaderTest, ReadsScalarsAndTensorsWithoutElements) {
  const auto entries =
      Parse(SafetensorsBytes(R"({"scalar": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]},
      "empty": {"dtype": "F32", "shape": [0, 7], "data_offsets": [0, 0]},
      "last": {"dtype": "F32", "shape": [0], "data_offsets": [1, 1]}})",
                             1));
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_EQ(entries->at(0).name, "empty");
  EXPECT_EQ(entries->at(1).name, "scalar");
  EXPECT_THAT(entries->at(1).shape, IsEmpty());
  EXPECT_EQ(entries->at(2).name, "last");
}

TEST(SafetensorsHeaderTest, ReadsAFileWithoutTensors) {
  EXPECT_THAT(*Parse(SafetensorsBytes("{}", 0)), IsEmpty());
  EXPECT_THAT(*Parse(SafetensorsBytes(R"({"__metadata__": {}})", 0)), IsEmpty());
}

TEST(SafetensorsHeaderTest, KnowsTheWidthOfEveryDType) {
  const std::pair<const char*, int> bytes_of_eight[] = {
      {"BOOL", 8},    {"U8", 8},      {"I8", 8},      {"F8_E5M2", 8}, {"F8_E4M3", 8},
      {"F8_E8M0", 8}, {"F4", 4},      {"I16", 16},    {"U16", 16},    {"F16", 16},
      {"BF16", 16},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"I32", 32},    {"U32", 32},
      {"F32", 32},    {"F64", 64},    {"I64", 64},    {"U64", 64},    {"C64", 64}};
  for (const auto& [dtype, bytes] : bytes_of_eight) {
    const std::string header = absl::StrCat(
        R"({"a": {"dtype": ")", dtype, R"(", "shape": [2, 4], "data_offsets": [0, )", bytes, "]}}");
    EXPECT_TRUE(Parse(SafetensorsBytes(header, bytes)).ok()) << dtype;
    ExpectRefused(header, bytes - 1, "the file is cut");
  }
  ExpectRefused(R"({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}})", 2,
                "ends inside a byte");
}

TEST(SafetensorsHeaderTest, RefusesAnUnknownDTypeByName) {
  for (const char* dtype : {"BF17", "bf16", "", "F32 "}) {
    const absl::Status status =
        Parse(SafetensorsBytes(absl::StrCat(R"({"a": {"dtype": ")", dtype,
                                            R"(", "shape": [], "data_offsets": [0, 4]}})"),
                               4))
            .status();
    EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
    EXPECT_THAT(status.message(),
                HasSubstr(absl::StrCat("tensor \"a\" has the unknown dtype \"", dtype, "\"")));
  }
}

TEST(SafetensorsHeaderTest, RefusesAFileCutAnywhere) {
  const std::string whole =
      SafetensorsBytes(R"({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}})", 16);
  ASSERT_TRUE(Parse(whole).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    const absl::Status status = Parse(absl::string_view(whole).substr(0, size)).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << size << ": " << status;
    EXPECT_THAT(status.message(), HasSubstr("the file is cut")) << size;
  }
  EXPECT_THAT(Parse(absl::string_view(whole).substr(0, whole.size() - 5)).status().message(),
              HasSubstr("its tensors take 16 bytes, it holds 11"));
}

TEST(SafetensorsHeaderTest, RefusesBytesAfterTheLastTensor) {
  ExpectRefused(R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}})", 3,
                "the file is too long");
  ExpectRefused("{}", 1, "the file is too long");
}

TEST(SafetensorsHeaderTest, RefusesAHeaderThatLiesAboutItsLength) {
  for (const uint64_t length :
       {uint64_t{3}, uint64_t{100'000'000}, uint64_t{100'000'001}, UINT64_MAX, uint64_t{1} << 63}) {
    std::string file(8, '\0');
    for (int i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i));
    EXPECT_TRUE(absl::IsDataLoss(Parse(file + "{}").status())) << length;
  }
  ExpectRefused("", 0, "no JSON object");
}

TEST(SafetensorsHeaderTest, RefusesAHeaderThatLiesAboutSizes) {
  const auto header = [](absl::string_view shape, absl::string_view offsets) {
    return absl::StrCat(R"({"a": {"dtype": "F32", "shape": )", shape, R"(, "data_offsets": )",
                        offsets, "}}");
  };
  ExpectRefused(header("[3]", "[0, 16]"), 16, "needs 12 bytes, but its data_offsets span 16");
  ExpectRefused(header("[5]", "[0, 16]"), 16, "needs 20 bytes, but its data_offsets span 16");
  ExpectRefused(header("[4294967296, 4294967296]", "[0, 0]"), 0, "larger than any file");
  ExpectRefused(header("[4611686018427387905]", "[0, 4]"), 4,
                "larger than any file");  // 4 bytes, modulo 2^64
  ExpectRefused(header("[9223372036854775807, 9223372036854775807, 0]", "[0, 0]"), 0,
                "larger than any file");
  ExpectRefused(header("[-4]", "[0, 16]"), 16, "-4");
  ExpectRefused(header("[4.0]", "[0, 16]"), 16, "\"4.0\"");
  ExpectRefused(header("[1e1]", "[0, 40]"), 40, "1e1");
  ExpectRefused(header("[18446744073709551615]", "[0, 16]"), 16, "an axis of 18446744073709551615");
  ExpectRefused(header("[18446744073709551617]", "[0, 4]"), 4, "18446744073709551617");
  ExpectRefused(header("[1e400]", "[0, 4]"), 4, "not valid JSON");
  ExpectRefused(header("[null]", "[0, 16]"), 16, "null");
  ExpectRefused(header("[\"4\"]", "[0, 16]"), 16, "\"4\"");
  ExpectRefused(header("[[4]]", "[0, 16]"), 16, "a list");
  ExpectRefused(header("[{}]", "[0, 16]"), 16, "an object");
  ExpectRefused(header("4", "[0, 16]"), 16, "4 for or in its shape");
  ExpectRefused(header(absl::StrCat("[1", std::string(130, ' '), ",1]"), "[0, 8]"), 8,
                "needs 4 bytes");
  std::string axes = "[1";
  for (int i = 0; i < 64; ++i) axes += ",1";
  ExpectRefused(header(axes + "]", "[0, 4]"), 4, "more than 64 axes");
}

TEST(SafetensorsHeaderTest, RefusesAHeaderThatLiesAboutOffsets) {
  const auto header = [](absl::string_view offsets) {
    return absl::StrCat(R"({"a": {"dtype": "F32", "shape": [4], "data_offsets": )", offsets, "}}");
  };
  ExpectRefused(header("[16, 0]"), 16, "ends at 0, before it begins at 16");
  ExpectRefused(header("[4, 20]"), 20, "leaves a hole");
  ExpectRefused(header("[18446744073709551600, 18446744073709551616]"), 16, "18446744073709551616");
  ExpectRefused(header("[18446744073709551599, 18446744073709551615]"), 16, "leaves a hole");
  ExpectRefused(header("[-16, 0]"), 16, "-16");
  ExpectRefused(header("[0.0, 16.0]"), 16, "0.0");
  ExpectRefused(header("[0]"), 16, "no two data_offsets");
  ExpectRefused(header("[]"), 16, "no two data_offsets");
  ExpectRefused(header("[0, 8, 16]"), 16, "more than two data_offsets");
  ExpectRefused(header("16"), 16, "16 for or in its data_offsets");
  ExpectRefused(header("null"), 16, "null");
}

TEST(SafetensorsHeaderTest, RefusesTensorsThatOverlapOrLeaveHoles) {
  const auto pair = [](absl::string_view second) {
    return absl::StrCat(R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},)",
                        R"( "b": {"dtype": "U8", "shape": [4], "data_offsets": )", second, "}}");
  };
  ASSERT_TRUE(Parse(SafetensorsBytes(pair("[4, 8]"), 8)).ok());
  ExpectRefused(pair("[3, 7]"), 7,
                "tensor \"b\" begins at 3 and overlaps the one before it, which ends at 4");
  ExpectRefused(pair("[0, 4]"), 4, "overlaps");
  ExpectRefused(pair("[5, 9]"), 9, "leaves a hole");
}

TEST(SafetensorsHeaderTest, RefusesANameThatStandsTwice) {
  ExpectRefused(R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
                    "a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}})",
                2, "\"a\" stands in the header twice");
  ExpectRefused(R"({"__metadata__": {}, "__metadata__": {}})", 0, "\"__metadata__\" stands twice");
  ExpectRefused(R"({"a": {"dtype": "U8", "dtype": "I8", "shape": [1], "data_offsets": [0, 1]}})", 1,
                "twice");
}

TEST(SafetensorsHeaderTest, RefusesFieldsThatAreMissingOrUnknown) {
  ExpectRefused(R"({"a": {"shape": [1], "data_offsets": [0, 1]}})", 1, "\"a\" has no dtype");
  ExpectRefused(R"({"a": {"dtype": "U8", "data_offsets": [0, 1]}})", 1, "\"a\" has no shape");
  ExpectRefused(R"({"a": {"dtype": "U8", "shape": [1]}})", 1, "\"a\" has no two data_offsets");
  ExpectRefused(R"({"a": {}})", 0, "\"a\" has no dtype");
  ExpectRefused(R"({"a": {"dtype": "U8", "shape": [], "data_offsets": [0, 1], "x": 1}})", 1,
                "unknown field \"x\"");
  ExpectRefused(R"({"a": {"dtype": 1, "shape": [], "data_offsets": [0, 1]}})", 1,
                "1 for or in its dtype");
  ExpectRefused(R"({"a": {"dtype": ["U8"], "shape": [], "data_offsets": [0, 1]}})", 1, "a list");
}

TEST(SafetensorsHeaderTest, RefusesWhatIsNoHeader) {
  for (const char* header : {"[]", " {}", "{", "{}}", "{} x", "{\"a\": 1}", "{\"a\": null}",
                             "{\"a\": []}", "{\"a\": true}", "{\"__metadata__\": 1}",
                             "{\"__metadata__\": {\"a\": 1}}", "{\"__metadata__\": {\"a\": {}}}",
                             "{\"__metadata__\": {\"a\": []}}", "{\"\xff\": {}}", "{'a': {}}"}) {
    ExpectRefused(header, 0, "");
  }
  ExpectRefused(absl::string_view("{}\0", 3), 0, "no JSON object");
  ExpectRefused(absl::StrCat("{\"a\": ", std::string(1'000'000, '[')), 0, "a list");
  ExpectRefused(absl::StrCat("{\"", std::string(1'000'000, 'x'), "\": 1}"), 0, "xxx...\" is 1");
}

TEST(SafetensorsHeaderTest, TellsThatAGitLfsPointerIsNotTheFile) {
  const absl::Status status =
      Parse("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4999999999\n")
          .status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("Git LFS pointer"));
}

}  // namespace
}  // namespace minicpmv
