#include "runtime/text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "runtime/text/utf8.h"
#include "tests/runtime/text/small_tokenizer.h"

namespace minicpmv {
namespace {

class DetokenizerTest : public ::testing::Test {
 protected:
  std::string Push(uint8_t byte) { return detokenizer_.Push(byte); }

  const std::unique_ptr<Tokenizer> tokenizer_ = *Tokenizer::Create(SmallFiles());
  Detokenizer detokenizer_{*tokenizer_};
};

TEST_F(DetokenizerTest, HoldsACharacterBackUntilItIsWhole) {
  EXPECT_EQ(detokenizer_.Push(259), "hello");
  EXPECT_EQ(Push(0xF0), "");
  EXPECT_EQ(Push(0x9F), "");
  EXPECT_EQ(Push(0x98), "");
  EXPECT_EQ(Push(0x80), "😀");
  EXPECT_EQ(detokenizer_.Finish(), "");
}

TEST_F(DetokenizerTest, ReplacesWhatCannotBecomeACharacter) {
  EXPECT_EQ(Push(0xF0), "");
  EXPECT_EQ(Push('a'), "\uFFFDa");
  EXPECT_EQ(Push(0x80), "\uFFFD");
  EXPECT_EQ(Push(0xE4), "");
  EXPECT_EQ(Push(0xB8), "");
  EXPECT_EQ(detokenizer_.Finish(), "\uFFFD");
  EXPECT_EQ(detokenizer_.Finish(), "");
}

TEST_F(DetokenizerTest, KeepsSpecialTokensAndIgnoresUnknownIds) {
  EXPECT_EQ(detokenizer_.Push(300), "<s>");
  EXPECT_EQ(detokenizer_.Push(299), "");
  EXPECT_EQ(detokenizer_.Push(-1), "");
  EXPECT_EQ(detokenizer_.Push(1 << 30), "");
}

TEST_F(DetokenizerTest, ItsPiecesJoinedAreTheWholeDecoded) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> ids(random() % 30);
    for (int32_t& id : ids)
      id = static_cast<int32_t>(random() % 2 == 0 ? 0x80 + random() % 0x80 : random() % 302);
    std::string joined;
    for (const int32_t id : ids) {
      const std::string piece = detokenizer_.Push(id);
      ASSERT_EQ(FindInvalidUtf8(piece), std::nullopt);
      joined += piece;
    }
    joined += detokenizer_.Finish();
    ASSERT_EQ(joined, tokenizer_->Decode(ids));
  }
}

}  // namespace
}  // namespace minicpmv
