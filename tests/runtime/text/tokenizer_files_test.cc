#include "runtime/text/tokenizer_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/runtime/text/small_tokenizer.h"

namespace minicpmv {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

std::string Refusal(const TokenizerFiles& files) {
  return std::string(ParseTokenizerFiles(files).status().ToString());
}

// What is said of the small tokenizer.json after `change`.
std::string RefusalAfter(const std::function<void(Json&)>& change) {
  Json file = SmallTokenizerJson();
  change(file);
  return Refusal(FilesOf(file));
}

class FolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(::testing::TempDir()) /
              absl::StrCat("tokenizer_files_",
                           ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
  }

  std::filesystem::path folder_;
};

TEST(TokenizerFilesTest, BothWaysSayTheSame) {
  const auto two_files = ParseTokenizerFiles(SmallFiles());
  const auto one_file = ParseTokenizerFiles(FilesOf(SmallTokenizerJson()));
  ASSERT_TRUE(two_files.ok()) << two_files.status();
  ASSERT_TRUE(one_file.ok()) << one_file.status();
  EXPECT_EQ(two_files->vocabulary, one_file->vocabulary);
  EXPECT_EQ(two_files->tags, one_file->tags);
  EXPECT_EQ(two_files->pattern, one_file->pattern);
  EXPECT_EQ(two_files->nfc, one_file->nfc);
  ASSERT_EQ(two_files->merges.size(), one_file->merges.size());
  for (size_t i = 0; i < one_file->merges.size(); ++i) {
    EXPECT_EQ(two_files->merges[i].left, one_file->merges[i].left);
    EXPECT_EQ(two_files->merges[i].right, one_file->merges[i].right);
    EXPECT_EQ(two_files->merges[i].merged, one_file->merges[i].merged);
  }
}

TEST(TokenizerFilesTest, ReadsMergesAsPairs) {
  Json file = SmallTokenizerJson();
  file["model"]["merges"] = Json::array({Json::array({"h", "e"}), Json::array({"l", "l"})});
  const auto spec = ParseTokenizerFiles(FilesOf(file));
  ASSERT_TRUE(spec.ok()) << spec.status();
  ASSERT_EQ(spec->merges.size(), 2u);
  EXPECT_EQ(spec->merges[1].merged, 257);
}

TEST(TokenizerFilesTest, ReadsMergesWithoutAVersionAndWithCarriageReturns) {
  TokenizerFiles files = SmallFiles();
  files.merges_txt = "h e\r\nl l\r\n\r\n";
  const auto spec = ParseTokenizerFiles(files);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->merges.size(), 2u);
}

TEST(TokenizerFilesTest, TagsMayStandInSeveralFilesAndInTheVocabulary) {
  TokenizerFiles files = SmallFiles();
  files.tokenizer_config_json =
      R"({"added_tokens_decoder": {"300": {"content": "<s>", "lstrip": false},
                                                            "259": {"content": "hello"}}})";
  const auto spec = ParseTokenizerFiles(files);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->tags.size(), 3u);
}

TEST(TokenizerFilesTest, RefusesATokenizerWithoutMerges) {
  EXPECT_THAT(RefusalAfter([](Json& file) { file["model"].erase("merges"); }),
              HasSubstr("INVALID_ARGUMENT: small/tokenizer.json: \"model.merges\" is missing"));
  EXPECT_THAT(RefusalAfter([](Json& file) { file["model"]["merges"] = Json::array(); }),
              HasSubstr("is empty"));
  TokenizerFiles files = SmallFiles();
  files.merges_txt = "#version: 0.2\n";
  EXPECT_THAT(Refusal(files), HasSubstr("INVALID_ARGUMENT: small/merges.txt: no merges"));
  files.merges_txt.reset();
  EXPECT_THAT(Refusal(files), HasSubstr("NOT_FOUND: small/merges.txt"));
}

TEST(TokenizerFilesTest, RefusesAFolderThatHoldsNeither) {
  TokenizerFiles files;
  files.folder = "small";
  EXPECT_THAT(Refusal(files), HasSubstr("NOT_FOUND: small: no tokenizer.json"));
}

TEST(TokenizerFilesTest, RefusesIdsThatAreTakenNegativeHugeOrNoNumbers) {
  const auto with_id = [](Json id) {
    return RefusalAfter([&](Json& file) { file["model"]["vocab"]["hello"] = id; });
  };
  EXPECT_THAT(with_id(256), HasSubstr("is 256, which"));
  EXPECT_THAT(with_id(-1), HasSubstr("\"model.vocab.hello\" is -1, not in [0, 1048575]"));
  EXPECT_THAT(with_id(1 << 20), HasSubstr("is 1048576, not in"));
  EXPECT_THAT(with_id(uint64_t{1} << 63), HasSubstr("not in [0, 1048575]"));
  EXPECT_THAT(with_id("259"), HasSubstr("not a whole number"));
  EXPECT_THAT(with_id(1.5), HasSubstr("not a whole number"));
  EXPECT_THAT(with_id(nullptr), HasSubstr("is missing"));
  EXPECT_EQ(with_id(4000), "OK");  // ids need not be dense
}

TEST(TokenizerFilesTest, RefusesTagsThatContradictTheRest) {
  const auto with_tags = [](const std::string& added_tokens) {
    TokenizerFiles files = SmallFiles();
    files.added_tokens_json = added_tokens;
    files.tokenizer_config_json = R"({"added_tokens_decoder": {"300": {"content": "<s>"}}})";
    return Refusal(files);
  };
  EXPECT_THAT(with_tags(R"({"<s>": 301})"), HasSubstr("is tag 300, elsewhere 301"));
  EXPECT_THAT(with_tags(R"({"<t>": 300})"), HasSubstr("is tag 300, which \"<t>\" is already"));
  EXPECT_THAT(with_tags(R"({"<t>": 259})"),
              HasSubstr("small/added_tokens.json: \"<t>\" is tag 259, which \"hello\""));
  EXPECT_THAT(with_tags(R"({"hello": 302})"),
              HasSubstr("is tag 302, but token 259 of the vocabulary"));
  EXPECT_THAT(with_tags(R"({"": 302})"), HasSubstr("a tag of 0 bytes"));
  EXPECT_THAT(with_tags(R"({"<t>": -2})"), HasSubstr("is -2, not in"));
  EXPECT_THAT(with_tags(absl::StrCat("{\"", std::string(257, 'x'), "\": 302}")),
              HasSubstr("a tag of 257 bytes"));
  EXPECT_THAT(with_tags("[]"), HasSubstr("small/added_tokens.json: not a JSON object"));
}

TEST(TokenizerFilesTest, RefusesTagIdsThatAreNoIds) {
  for (const char* id : {"x", "-1", "1048576", "99999999999999999999", ""}) {
    TokenizerFiles files = SmallFiles();
    files.tokenizer_config_json =
        absl::StrCat(R"({"added_tokens_decoder": {")", id, R"(": {"content": "<t>"}}})");
    EXPECT_THAT(Refusal(files), HasSubstr("is no id in [0, 1048575]")) << id;
  }
}

TEST(TokenizerFilesTest, RefusesAVocabularyThatLacksAByte) {
  EXPECT_THAT(RefusalAfter([](Json& file) { file["model"]["vocab"].erase("z"); }),
              HasSubstr("the vocabulary lacks \"z\", which stands for byte 122"));
}

TEST(TokenizerFilesTest, RefusesMergesThatNameUnknownTokensOrHaveOtherForms) {
  const auto with_merges = [](Json merges) {
    return RefusalAfter([&](Json& file) { file["model"]["merges"] = std::move(merges); });
  };
  EXPECT_THAT(with_merges({"h e", "x yy"}),
              HasSubstr("tokenizer.json: merges[1]: the merge needs \"yy\""));
  EXPECT_THAT(with_merges({"x y"}), HasSubstr("needs \"xy\", which is not in the vocabulary"));
  EXPECT_THAT(with_merges({" he"}), HasSubstr("needs \"\""));
  EXPECT_THAT(with_merges({"h"}), HasSubstr("\"model.merges[0]\" has 1 parts, not 2"));
  EXPECT_THAT(with_merges({"h e l"}), HasSubstr("has 3 parts"));
  EXPECT_THAT(with_merges({Json::array({"h", "e", "l"})}), HasSubstr("has 3 parts"));
  EXPECT_THAT(with_merges({1}), HasSubstr("is 1, not a string"));
  EXPECT_THAT(with_merges(Json::array({Json::array({"h", Json::array()})})),
              HasSubstr("not a string"));
  TokenizerFiles files = SmallFiles();
  files.merges_txt = "h e\n\nh e l\n";
  EXPECT_THAT(Refusal(files), HasSubstr("small/merges.txt, line 3: 3 parts, not 2"));
  files.merges_txt = "h e\nh \xFF\n";
  EXPECT_THAT(Refusal(files), HasSubstr("small/merges.txt: not UTF-8 at byte 6"));
}

TEST(TokenizerFilesTest, RefusesJsonThatIsCutDeepOrOfAnotherKind) {
  TokenizerFiles files;
  files.folder = "small";
  const std::string whole = SmallTokenizerJson().dump();
  for (const size_t length : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1}) {
    files.tokenizer_json = whole.substr(0, length);
    EXPECT_THAT(Refusal(files), HasSubstr("INVALID_ARGUMENT: small/tokenizer.json: not valid JSON"))
        << length;
  }
  files.tokenizer_json = std::string(1'000'000, '[');
  EXPECT_THAT(Refusal(files), HasSubstr("small/tokenizer.json: nested deeper than 64"));
  for (const char* text : {"[]", "1", "null", "\"x\""}) {
    files.tokenizer_json = text;
    EXPECT_THAT(Refusal(files), HasSubstr("not a JSON object")) << text;
  }
  files.tokenizer_json = "{\"model\": \"\xFF\"}";
  EXPECT_THAT(Refusal(files), HasSubstr("not valid JSON"));
}

TEST(TokenizerFilesTest, RefusesFieldsOfTheWrongType) {
  for (const Json& wrong : {Json(1), Json("x"), Json::array({1}), Json(true), Json::object()}) {
    const auto refusal_with = [&](const char* pointer) {
      return RefusalAfter([&](Json& file) { file[Json::json_pointer(pointer)] = wrong; });
    };
    for (const char* pointer :
         {"/model", "/model/vocab", "/model/merges", "/pre_tokenizer", "/normalizer",
          "/added_tokens", "/pre_tokenizer/pretokenizers", "/pre_tokenizer/pretokenizers/0",
          "/pre_tokenizer/pretokenizers/0/pattern", "/added_tokens/0"}) {
      EXPECT_THAT(refusal_with(pointer), HasSubstr("small/tokenizer.json: "))
          << pointer << " " << wrong;
    }
  }
}

TEST(TokenizerFilesTest, SaysWhatItDoesNotSupport) {
  const auto unsupported = [](const char* pointer, Json value) {
    const std::string words =
        RefusalAfter([&](Json& file) { file[Json::json_pointer(pointer)] = std::move(value); });
    EXPECT_THAT(words, HasSubstr("UNIMPLEMENTED: small/tokenizer.json: ")) << pointer;
  };
  unsupported("/model/type", "Unigram");
  unsupported("/model/byte_fallback", true);
  unsupported("/model/end_of_word_suffix", "</w>");
  unsupported("/normalizer/type", "NFKC");
  unsupported("/pre_tokenizer/type", "ByteLevel");
  unsupported("/pre_tokenizer/pretokenizers/0/type", "Digits");
  unsupported("/pre_tokenizer/pretokenizers/0/behavior", "Removed");
  unsupported("/pre_tokenizer/pretokenizers/0/invert", true);
  unsupported("/pre_tokenizer/pretokenizers/1/add_prefix_space", true);
  unsupported("/pre_tokenizer/pretokenizers/1/use_regex", true);
  unsupported("/added_tokens/0/lstrip", true);
  unsupported("/added_tokens/0/rstrip", true);
  unsupported("/added_tokens/0/single_word", true);
}

TEST_F(FolderTest, NamesAFolderThatIsNotThere) {
  const absl::Status status = ReadTokenizerFiles((folder_ / "nowhere").string()).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(status.message(), HasSubstr("nowhere: no such folder"));
  Write("file", "");
  EXPECT_TRUE(absl::IsInvalidArgument(ReadTokenizerFiles((folder_ / "file").string()).status()));
}

TEST_F(FolderTest, RefusesAFileThatIsTooLarge) {
  Write("vocab.json", "");
  std::filesystem::resize_file(folder_ / "vocab.json", (uint64_t{32} << 20) + 1);
  const absl::Status status = ReadTokenizerFiles(folder_.string()).status();
  EXPECT_TRUE(absl::IsOutOfRange(status));
  EXPECT_THAT(status.message(), HasSubstr("vocab.json: 33554433 bytes"));
}

TEST_F(FolderTest, ReadsWhatIsThere) {
  const TokenizerFiles small = SmallFiles();
  Write("vocab.json", *small.vocab_json);
  Write("merges.txt", *small.merges_txt);
  Write("added_tokens.json", *small.added_tokens_json);
  const auto files = ReadTokenizerFiles(folder_.string());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->vocab_json, small.vocab_json);
  EXPECT_EQ(files->merges_txt, small.merges_txt);
  EXPECT_EQ(files->added_tokens_json, small.added_tokens_json);
  EXPECT_EQ(files->tokenizer_config_json, std::nullopt);
  const auto spec = ParseTokenizerFiles(*files);
  EXPECT_TRUE(spec.ok()) << spec.status();
}

}  // namespace
}  // namespace minicpmv
