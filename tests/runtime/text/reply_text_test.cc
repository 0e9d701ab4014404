#include "runtime/text/reply_text.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace minicpmv {
namespace {

class ReplyTextTest : public ::testing::Test {
 protected:
  ReplyTextTest()
      : tokenizer_(
            Tokenizer::Load(absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model")).value()) {}

  std::vector<int32_t> Ids(const std::string& text) {
    return tokenizer_->Encode(text, Tags::kTokens).value();
  }

  // All of a reply; what came before the end is told by `early`.
  std::string Run(const std::vector<int32_t>& ids, ReplyText::Options options) {
    ReplyText text = ReplyText::Create(*tokenizer_, options).value();
    std::string all;
    for (const int32_t id : ids) all += text.Push(id);
    stopped_ = text.stopped();
    return all + text.Finish();
  }

  const std::unique_ptr<Tokenizer> tokenizer_;
  bool stopped_ = false;
};

TEST_F(ReplyTextTest, SendsWholeCharactersOnly) {
  ReplyText text = ReplyText::Create(*tokenizer_, {}).value();
  const std::vector<int32_t> ids = Ids("ü");
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_EQ(text.Push(ids[0]), "");
  EXPECT_EQ(text.Push(ids[1]), "ü");
  EXPECT_EQ(text.Push(ids[0]), "");
  EXPECT_EQ(text.Finish(), "\xEF\xBF\xBD");
}

TEST_F(ReplyTextTest, NeverSendsAStopTextNorWhatFollows) {
  EXPECT_EQ(Run(Ids("One. Two. Three."), {{". T"}}), "One");
  EXPECT_TRUE(stopped_);
  EXPECT_EQ(Run(Ids("One. "), {{". T"}}), "One. ");
  EXPECT_FALSE(stopped_);
}

TEST_F(ReplyTextTest, SeesAStopTextThatTheEndCompletes) {
  const std::vector<int32_t> half = {Ids("ü")[0]};
  EXPECT_EQ(Run(half, {{"\xEF\xBF\xBD"}}), "");
}

TEST_F(ReplyTextTest, KeepsTokenZeroAndWhiteSpaceAndTags) {
  EXPECT_EQ(tokenizer_->BytesOf(0), "!");
  EXPECT_EQ(Run(Ids(" <box>Hi! \n"), {}), " <box>Hi! \n");
}

TEST_F(ReplyTextTest, DropsWhatTheOriginalDropsWhenAsked) {
  const int32_t start = tokenizer_->SpecialId("<|im_start|>").value();
  const ReplyText::Options quirks = {{}, true, start};
  EXPECT_EQ(Run(Ids("<|im_start|> \n <box>Hi! \xC2\xA0you <|im_start|> \n"), quirks),
            "<box>Hi \xC2\xA0you <|im_start|>");
  EXPECT_EQ(Run(Ids(" \n "), quirks), "");
}

TEST_F(ReplyTextTest, RefusesAnEmptyStopText) {
  EXPECT_TRUE(absl::IsInvalidArgument(ReplyText::Create(*tokenizer_, {{""}}).status()));
}

}  // namespace
}  // namespace minicpmv
