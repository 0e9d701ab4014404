#include "runtime/text/splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<std::string> Pieces(absl::string_view pattern, absl::string_view text) {
  const auto splitter = Splitter::Create(pattern, "here");
  if (!splitter.ok()) return {splitter.status().ToString()};
  std::vector<std::string> pieces;
  const absl::Status status =
      (*splitter)->Split(text, [&](absl::string_view piece) { pieces.emplace_back(piece); });
  if (!status.ok()) return {status.ToString()};
  return pieces;
}

TEST(SplitterTest, CutsLikeTheModelsPattern) {
  EXPECT_THAT(Pieces(kQwen2, ""), IsEmpty());
  EXPECT_THAT(Pieces(kQwen2, "It's 42  apples!\n\n x"),
              ElementsAre("It", "'s", " ", "4", "2", " ", " apples", "!\n\n", " x"));
  EXPECT_THAT(Pieces(kQwen2, "a \n \n b  "), ElementsAre("a", " \n \n", " b", "  "));
}

TEST(SplitterTest, KnowsTheOtherCasesOfALetter) {
  EXPECT_THAT(Pieces(kQwen2, "'ſa"), ElementsAre("'ſ", "a"));
  EXPECT_THAT(Pieces(kQwen2, "'LLa"), ElementsAre("'LL", "a"));
}

TEST(SplitterTest, TakesWhiteSpaceAsUnicodeDefinesIt) {
  EXPECT_THAT(Pieces("\\s+", "a\u0085\u00A0\u3000b"), ElementsAre("a", "\u0085\u00A0\u3000", "b"));
  EXPECT_THAT(Pieces("\\s+", "a\u180Eb\u200Bc"), ElementsAre("a\u180Eb\u200Bc"));
  EXPECT_THAT(Pieces("[^\\s]+|\\S", "a\u180Eb c"), ElementsAre("a\u180Eb", " ", "c"));
  EXPECT_THAT(Pieces("\\\\s", "\\sx"), ElementsAre("\\s", "x"));
}

TEST(SplitterTest, LosesNothingBetweenMatches) {
  EXPECT_THAT(Pieces("b", "abbc"), ElementsAre("a", "b", "b", "c"));
  EXPECT_THAT(Pieces("z", "ab"), ElementsAre("ab"));
}

TEST(SplitterTest, PassesOverEmptyMatches) {
  EXPECT_THAT(Pieces("", "aé"), ElementsAre("a", "é"));
  EXPECT_THAT(Pieces("b*", "abbc"), ElementsAre("a", "bb", "c"));
  EXPECT_THAT(Pieces("(?=b)", "abc"), ElementsAre("a", "bc"));
}

TEST(SplitterTest, RefusesWhatIsNoPattern) {
  EXPECT_THAT(Pieces("(", "a"),
              ElementsAre(HasSubstr("INVALID_ARGUMENT: here: \"(\" is not a regular expression")));
  EXPECT_THAT(Pieces(std::string(5000, 'a'), "a"), ElementsAre(HasSubstr("not at most 4096")));
}

TEST(SplitterTest, StopsAPatternThatBacktracksWithoutEnd) {
  EXPECT_THAT(Pieces("(a+)+$", std::string(60, 'a') + "b"),
              ElementsAre(HasSubstr("RESOURCE_EXHAUSTED")));
}

}  // namespace
}  // namespace minicpmv
