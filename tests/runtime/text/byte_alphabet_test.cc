#include "runtime/text/byte_alphabet.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace minicpmv {
namespace {

TEST(ByteAlphabetTest, SpellsBytesAsGpt2Does) {
  EXPECT_EQ(SpellingOf('!'), "!");
  EXPECT_EQ(SpellingOf('~'), "~");
  EXPECT_EQ(SpellingOf(' '), "Ġ");
  EXPECT_EQ(SpellingOf('\n'), "Ċ");
  EXPECT_EQ(SpellingOf(0), "Ā");
  EXPECT_EQ(SpellingOf(0x7F), "ġ");
  EXPECT_EQ(SpellingOf(0xA0), "ł");
  EXPECT_EQ(SpellingOf(0xA1), "¡");
  EXPECT_EQ(SpellingOf(0xAD), "Ń");
  EXPECT_EQ(SpellingOf(0xFF), "ÿ");
}

TEST(ByteAlphabetTest, ReadsBackWhatItSpells) {
  std::set<std::string> spellings;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string spelling(SpellingOf(byte));
    spellings.insert(spelling);
    EXPECT_EQ(BytesOfSpelling(spelling), std::string(1, static_cast<char>(byte))) << byte;
  }
  EXPECT_EQ(spellings.size(), 256u);
  EXPECT_EQ(BytesOfSpelling("Ġä¸Ń"), " 中");
}

TEST(ByteAlphabetTest, RefusesATokenOutsideTheAlphabet) {
  EXPECT_EQ(BytesOfSpelling("<a b>"), std::nullopt);
  EXPECT_EQ(BytesOfSpelling("Ġ中"), std::nullopt);
  EXPECT_EQ(BytesOfSpelling(""), "");
}

}  // namespace
}  // namespace minicpmv
