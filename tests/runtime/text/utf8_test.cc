#include "runtime/text/utf8.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace minicpmv {
namespace {

std::string Replaced(std::string bytes) {
  std::string text = TakeWholeUtf8(bytes);
  if (!bytes.empty()) text.append(kReplacementCharacter.data(), kReplacementCharacter.size());
  return text;
}

TEST(Utf8Test, KnowsTheCodePointOfEachLength) {
  EXPECT_EQ(CodePointOf("a"), U'a');
  EXPECT_EQ(CodePointOf("é"), U'é');
  EXPECT_EQ(CodePointOf("中"), U'中');
  EXPECT_EQ(CodePointOf("😀"), U'😀');
  EXPECT_EQ(CodePointOf("\xF4\x8F\xBF\xBF"), char32_t{0x10FFFF});
}

TEST(Utf8Test, FindsTheFirstByteThatIsNotOfAWholeCharacter) {
  EXPECT_EQ(FindInvalidUtf8(""), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("aé中😀\xF4\x8F\xBF\xBF"), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8(absl::string_view("a\0b", 3)), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("a\x80"), 1u);
  EXPECT_EQ(FindInvalidUtf8("é\xC0\x80"), 2u);         // overlong
  EXPECT_EQ(FindInvalidUtf8("\xE0\x9F\xBF"), 0u);      // overlong
  EXPECT_EQ(FindInvalidUtf8("\xED\xA0\x80"), 0u);      // a surrogate
  EXPECT_EQ(FindInvalidUtf8("\xF0\x8F\xBF\xBF"), 0u);  // overlong
  EXPECT_EQ(FindInvalidUtf8("\xF4\x90\x80\x80"), 0u);  // over U+10FFFF
  EXPECT_EQ(FindInvalidUtf8("\xFF"), 0u);
  EXPECT_EQ(FindInvalidUtf8("ab\xE4\xB8"), 2u);  // cut
}

// Each right side is what Python's bytes.decode("utf-8", errors="replace") gives.
TEST(Utf8Test, ReplacesEachMaximalSubpartByOneCharacter) {
  EXPECT_EQ(Replaced("a\x80"
                     "b"),
            "a\uFFFDb");
  EXPECT_EQ(Replaced("\xE4\xB8"
                     "b"),
            "\uFFFDb");
  EXPECT_EQ(Replaced("\xE4\xB8"), "\uFFFD");
  EXPECT_EQ(Replaced("\xF0\x9F\x98"), "\uFFFD");
  EXPECT_EQ(Replaced("\xC0\x80"), "\uFFFD\uFFFD");
  EXPECT_EQ(Replaced("\xE0\x80\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Replaced("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Replaced("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Replaced("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
                     "A"),
            "\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(Replaced("\xF0\x9F\x98\x80\xF0\x9F"), "😀\uFFFD");
}

TEST(Utf8Test, KeepsTheStartOfACharacterThatMayBeCompleted) {
  std::string bytes = "a\xE4\xB8";
  EXPECT_EQ(TakeWholeUtf8(bytes), "a");
  EXPECT_EQ(bytes, "\xE4\xB8");
  bytes += "\xAD";
  EXPECT_EQ(TakeWholeUtf8(bytes), "中");
  EXPECT_EQ(bytes, "");
}

}  // namespace
}  // namespace minicpmv
