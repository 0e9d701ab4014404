#include "runtime/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/mapped_file.h"
#include "runtime/text/nfc.h"
#include "tests/runtime/text/small_tokenizer.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

constexpr char kNano[] = MINICPMV_SOURCE_DIR "/tools/nano/model";
constexpr char kGoldens[] = MINICPMV_SOURCE_DIR "/tests/testdata/goldens";

std::unique_ptr<Tokenizer> Made(const TokenizerFiles& files) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Create(files);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<int32_t> Ids(const Tokenizer& tokenizer, absl::string_view text,
                         Tags tags = Tags::kText) {
  absl::StatusOr<std::vector<int32_t>> ids = tokenizer.Encode(text, tags);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *std::move(ids) : std::vector<int32_t>();
}

// Anything that UTF-8 can say, with much of what the pattern and the normalisation look at.
std::string RandomText(std::mt19937_64& random) {
  static const std::vector<std::string> pieces = {
      " ",  "  ", "\n",  "\r\n", "'s",    "'LL",    "'ſ",     "12",           "é", "e\u0301", "中",
      "한", "😀",  "<s>", "<",    "hello", "\u180E", "\u0085", "\u0301\u0323", "!"};
  std::string text;
  const size_t length = random() % 40;
  for (size_t i = 0; i < length; ++i) {
    if (random() % 3 > 0) {
      text += pieces[random() % pieces.size()];
      continue;
    }
    char32_t code = static_cast<char32_t>(random() % (random() % 2 == 0 ? 0x3000 : 0x110000));
    if (code >= 0xD800 && code < 0xE000) code = U'a';
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else if (code < 0x800) {
      text += {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    } else if (code < 0x10000) {
      text += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3F)),
               static_cast<char>(0x80 | (code & 0x3F))};
    } else {
      text +=
          {static_cast<char>(0xF0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 0x3F)),
           static_cast<char>(0x80 | (code >> 6 & 0x3F)), static_cast<char>(0x80 | (code & 0x3F))};
    }
  }
  return text;
}

void ExpectRoundTrips(const Tokenizer& tokenizer, int rounds) {
  std::mt19937_64 random(11);
  for (int round = 0; round < rounds; ++round) {
    const std::string text = RandomText(random);
    std::string storage;
    const absl::string_view nfc = ToNfc(text, storage);
    const std::vector<int32_t> ids = Ids(tokenizer, text);
    ASSERT_EQ(tokenizer.Decode(ids), nfc);
    for (const int32_t id : ids) ASSERT_FALSE(tokenizer.IsSpecial(id)) << text;
  }
}

TEST(TokenizerTest, MergesPieceByPiece) {
  const auto tokenizer = Made(SmallFiles());
  EXPECT_THAT(Ids(*tokenizer, ""), IsEmpty());
  EXPECT_THAT(Ids(*tokenizer, "hello"), ElementsAre(259));
  EXPECT_THAT(Ids(*tokenizer, "hellhe"), ElementsAre(258, 256));
  EXPECT_THAT(Ids(*tokenizer, "he1l"), ElementsAre(256, '1', 'l'));
  EXPECT_THAT(Ids(*tokenizer, absl::string_view("\0he", 3)), ElementsAre(0, 256));
}

TEST(TokenizerTest, NormalisesWhereTheFileSaysSo) {
  Json file = SmallTokenizerJson();
  EXPECT_THAT(Ids(*Made(FilesOf(file)), "e\u0301"), ElementsAre(0xC3, 0xA9));
  file["normalizer"] = nullptr;
  EXPECT_THAT(Ids(*Made(FilesOf(file)), "e\u0301"), ElementsAre('e', 0xCC, 0x81));
}

TEST(TokenizerTest, ReadsTagsAsTextOrAsTokens) {
  const auto tokenizer = Made(SmallFiles());
  EXPECT_THAT(Ids(*tokenizer, "<s>he", Tags::kText), ElementsAre('<', 's', '>', 256));
  EXPECT_THAT(Ids(*tokenizer, "<s>he", Tags::kTokens), ElementsAre(300, 256));
  EXPECT_THAT(Ids(*tokenizer, " <s> <s", Tags::kTokens), ElementsAre(' ', 300, ' ', '<', 's'));
}

TEST(TokenizerTest, TakesTheLeftmostTagAndOfThoseTheLongest) {
  const auto tokenizer = Made(SmallFiles());
  EXPECT_THAT(Ids(*tokenizer, "<s><s>", Tags::kTokens), ElementsAre(301));
  EXPECT_THAT(Ids(*tokenizer, "<s><s><s>", Tags::kTokens), ElementsAre(301, 300));
  EXPECT_THAT(Ids(*tokenizer, "<s><<s>", Tags::kTokens), ElementsAre(300, '<', 300));
}

TEST(TokenizerTest, ATagEndsAPieceAndWhatIsNormalised) {
  const auto tokenizer = Made(SmallFiles());
  EXPECT_THAT(Ids(*tokenizer, "he<s>llo", Tags::kTokens), ElementsAre(256, 300, 257, 'o'));
  EXPECT_THAT(Ids(*tokenizer, "e<s>\u0301", Tags::kTokens), ElementsAre('e', 300, 0xCC, 0x81));
}

TEST(TokenizerTest, NoSpecialComesOutOfMergesOfText) {
  TokenizerFiles files = SmallFiles();
  files.tokenizer_config_json = R"({"added_tokens_decoder": {"259": {"content": "hello"}}})";
  const auto tokenizer = Made(files);
  EXPECT_TRUE(tokenizer->IsSpecial(259));
  EXPECT_THAT(Ids(*tokenizer, "hello", Tags::kText), ElementsAre(258, 'o'));
  EXPECT_THAT(Ids(*tokenizer, "hello", Tags::kTokens), ElementsAre(259));
}

TEST(TokenizerTest, AWholePieceMaySkipTheMerges) {
  Json file = SmallTokenizerJson();
  file["model"]["vocab"]["abc"] = 260;
  EXPECT_THAT(Ids(*Made(FilesOf(file)), "abc"), ElementsAre('a', 'b', 'c'));
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(Ids(*Made(FilesOf(file)), "abc"), ElementsAre(260));
  EXPECT_THAT(Ids(*Made(FilesOf(file)), "abchello"), ElementsAre('a', 'b', 'c', 259));
  file["added_tokens"].push_back({{"id", 260}, {"content", "abc"}});
  EXPECT_THAT(Ids(*Made(FilesOf(file)), "abc"), ElementsAre('a', 'b', 'c'));
}

TEST(TokenizerTest, KnowsBytesAndIdsOfTokens) {
  const auto tokenizer = Made(SmallFiles());
  EXPECT_EQ(tokenizer->size(), 302);
  EXPECT_EQ(tokenizer->BytesOf(259), "hello");
  EXPECT_EQ(tokenizer->BytesOf(0xE4), "\xE4");
  EXPECT_EQ(tokenizer->BytesOf(' '), " ");
  EXPECT_EQ(tokenizer->BytesOf(301), "<s><s>");
  EXPECT_EQ(tokenizer->BytesOf(280), "");  // a gap
  EXPECT_EQ(tokenizer->BytesOf(302), "");
  EXPECT_EQ(tokenizer->BytesOf(-1), "");
  EXPECT_EQ(tokenizer->SpecialId("<s>"), 300);
  EXPECT_EQ(tokenizer->SpecialId("hello"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(300));
  EXPECT_FALSE(tokenizer->IsSpecial(259));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
}

TEST(TokenizerTest, DecodesBrokenBytesAsReplacementCharacters) {
  const auto tokenizer = Made(SmallFiles());
  EXPECT_EQ(tokenizer->Decode({259, 0xE4, 0xB8, 0xAD, 300, 0x80, 'a', 0xF0, 0x9F}),
            "hello中<s>\uFFFDa\uFFFD");
  EXPECT_EQ(tokenizer->Decode({}), "");
}

TEST(TokenizerTest, RefusesTextThatIsNotUtf8) {
  const auto tokenizer = Made(SmallFiles());
  for (const char* text : {"ab\xFF", "ab\xC3", "ab\xED\xA0\x80", "ab\xC0\x80"}) {
    const absl::Status status = tokenizer->Encode(text, Tags::kText).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(status.message(), HasSubstr("not UTF-8 at byte 2"));
  }
}

TEST(TokenizerTest, NamesTheFileOfAPatternThatIsNone) {
  Json file = SmallTokenizerJson();
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(";
  const absl::Status status = Tokenizer::Create(FilesOf(file)).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(status.message(),
              HasSubstr("small/tokenizer.json: \"(\" is not a regular expression"));
}

TEST(TokenizerTest, BringsRandomTextBack) {
  ExpectRoundTrips(*Made(SmallFiles()), 2000);
  const auto nano = Tokenizer::Load(kNano);
  ASSERT_TRUE(nano.ok()) << nano.status();
  ExpectRoundTrips(**nano, 2000);
}

TEST(TokenizerTest, BothWaysOfLoadingGiveTheSameIds) {
  for (const std::string& folder :
       {std::string(kNano), absl::StrCat(kGoldens, "/v26-mini-f32/checkpoint"),
        absl::StrCat(kGoldens, "/v26-real-geometry-f32/checkpoint")}) {
    auto files = ReadTokenizerFiles(folder);
    ASSERT_TRUE(files.ok()) << files.status();
    const auto one_file = Made(*files);
    files->tokenizer_json.reset();
    files->vocab_json = *ReadFile(folder + "/vocab.json", 1 << 20);
    files->merges_txt = *ReadFile(folder + "/merges.txt", 1 << 20);
    const auto two_files = Made(*files);
    ASSERT_EQ(one_file->size(), two_files->size());
    for (int32_t id = 0; id < one_file->size(); ++id)
      ASSERT_EQ(one_file->BytesOf(id), two_files->BytesOf(id));
    std::mt19937_64 random(2);
    for (int round = 0; round < 500; ++round) {
      const std::string text =
          absl::StrCat(RandomText(random), "<|im_end|>", RandomText(random), "The center of <unk>");
      for (const Tags tags : {Tags::kText, Tags::kTokens}) {
        ASSERT_EQ(Ids(*one_file, text, tags), Ids(*two_files, text, tags)) << text;
      }
    }
  }
}

class LongTextTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LongTextTest, TenMegabytesOfOneCharacterAreEncoded) {
  const auto tokenizer = Tokenizer::Load(kNano);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string character = GetParam();
  std::string text;
  while (text.size() < 10'000'000) text += character;
  const std::vector<int32_t> ids = Ids(**tokenizer, text, Tags::kTokens);
  EXPECT_TRUE((*tokenizer)->Decode(ids) == text);
}

INSTANTIATE_TEST_SUITE_P(Characters, LongTextTest,
                         ::testing::Values("a", " ", "\n", "<", "7", "中", "\u0301"));

// The published vocabulary of MiniCPM-V 2.6, where a copy of it is at hand.
class PublishedTokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* const shared = std::getenv("MINICPMV_SHARED");
    const std::string folder = absl::StrCat(
        shared != nullptr ? shared : MINICPMV_SOURCE_DIR "/../shared", "/hub/minicpm-v-2.6");
    if (!std::filesystem::exists(folder + "/vocab.json"))
      GTEST_SKIP() << "needs " << folder << "/vocab.json";
    auto tokenizer = Tokenizer::Load(folder);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(PublishedTokenizerTest, GivesTheOriginalsIdsForTenThousandTexts) {
  const auto file =
      ReadFile(MINICPMV_SOURCE_DIR "/tests/testdata/spec/tokenizer-vectors-2.6.json", 16 << 20);
  ASSERT_TRUE(file.ok()) << file.status();
  const Json vectors = Json::parse(*file);
  ASSERT_EQ(vectors.size(), 10000u);
  for (const Json& vector : vectors) {
    ASSERT_EQ(Ids(*tokenizer_, vector[0].get<std::string>()), vector[1].get<std::vector<int32_t>>())
        << vector[0];
  }
}

TEST_F(PublishedTokenizerTest, HasTheSpecialTokensOfTheModel) {
  EXPECT_EQ(tokenizer_->size(), 151666);
  EXPECT_EQ(tokenizer_->SpecialId("<unk>"), 128244);
  EXPECT_EQ(tokenizer_->SpecialId("<|endoftext|>"), 151643);
  EXPECT_EQ(tokenizer_->SpecialId("<|im_end|>"), 151645);
  EXPECT_EQ(tokenizer_->SpecialId("</image_id>"), 151659);
  EXPECT_THAT(Ids(*tokenizer_, "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
                  Tags::kTokens),
              ElementsAre(151644, 8948, 198, 2610, 525, 264, 10950, 17847, 13, 151645, 198));
  EXPECT_THAT(Ids(*tokenizer_, "<unk><image></image>", Tags::kTokens),
              ElementsAre(128244, 151646, 151647));
}

// Its longest token is 128 spaces, seven merges deep.
TEST_F(PublishedTokenizerTest, EncodesTenMegabytesOfSpaces) {
  EXPECT_EQ(Ids(*tokenizer_, std::string(10'240'000, ' ')).size(), 80'000u);
}

TEST_F(PublishedTokenizerTest, BringsRandomTextBack) { ExpectRoundTrips(*tokenizer_, 5000); }

}  // namespace
}  // namespace minicpmv
