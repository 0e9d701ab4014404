#include "runtime/text/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::array<int32_t, 256> BytesAsThemselves() {
  std::array<int32_t, 256> bytes;
  std::iota(bytes.begin(), bytes.end(), 0);
  return bytes;
}

std::vector<int32_t> Encode(const Bpe& bpe, absl::string_view piece) {
  Bpe::Scratch scratch;
  std::vector<int32_t> ids;
  bpe.Encode(piece, scratch, ids);
  return ids;
}

// The definition, word for word: quadratic.
std::vector<int32_t> PlainBpe(const std::vector<Bpe::Merge>& merges, absl::string_view piece) {
  std::vector<int32_t> ids;
  for (const char c : piece) ids.push_back(static_cast<uint8_t>(c));
  while (true) {
    const auto apply_first = [&] {
      for (const Bpe::Merge& merge : merges) {
        for (size_t i = 0; i + 1 < ids.size(); ++i) {
          if (ids[i] != merge.left || ids[i + 1] != merge.right) continue;
          ids[i] = merge.merged;
          ids.erase(ids.begin() + static_cast<ptrdiff_t>(i) + 1);
          return true;
        }
      }
      return false;
    };
    if (!apply_first()) return ids;
  }
}

TEST(BpeTest, MergesTheLowestRankFirstAndThenTheLeftmost) {
  const Bpe bpe(BytesAsThemselves(),
                {{'b', 'c', 256}, {'a', 'b', 257}, {'a', 'a', 258}, {258, 258, 259}});
  EXPECT_THAT(Encode(bpe, ""), IsEmpty());
  EXPECT_THAT(Encode(bpe, "x"), ElementsAre('x'));
  EXPECT_THAT(Encode(bpe, "abc"), ElementsAre('a', 256));
  EXPECT_THAT(Encode(bpe, "aaa"), ElementsAre(258, 'a'));
  EXPECT_THAT(Encode(bpe, "aaaaa"), ElementsAre(259, 'a'));
}

TEST(BpeTest, FollowsAMergeThatRanksBeforeItsParts) {
  const Bpe bpe(BytesAsThemselves(), {{256, 256, 257}, {'a', 'b', 256}});
  EXPECT_THAT(Encode(bpe, "ababab"), ElementsAre(257, 256));
}

TEST(BpeTest, TheLastOfEqualMergesCounts) {
  const Bpe bpe(BytesAsThemselves(), {{'a', 'b', 256}, {'b', 'c', 257}, {'a', 'b', 256}});
  EXPECT_THAT(Encode(bpe, "abc"), ElementsAre('a', 257));
}

TEST(BpeTest, AgreesWithTheDefinitionOnRandomMerges) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<Bpe::Merge> merges;
    std::vector<int32_t> tokens = {'a', 'b', 'c'};
    for (int32_t next = 256; next < 270; ++next) {
      const int32_t left = tokens[random() % tokens.size()];
      const int32_t right = tokens[random() % tokens.size()];
      merges.push_back({left, right, next});
      tokens.push_back(next);
    }
    if (round % 2 == 1) std::shuffle(merges.begin(), merges.end(), random);
    // Of equal pairs the last counts, which the plain loop does not know.
    std::vector<Bpe::Merge> unique;
    for (size_t i = 0; i < merges.size(); ++i) {
      bool again = false;
      for (size_t j = i + 1; j < merges.size(); ++j) {
        again |= merges[i].left == merges[j].left && merges[i].right == merges[j].right;
      }
      if (!again) unique.push_back(merges[i]);
    }
    const Bpe bpe(BytesAsThemselves(), merges);
    for (int i = 0; i < 20; ++i) {
      std::string piece(random() % 60, ' ');
      for (char& c : piece) c = static_cast<char>('a' + random() % 3);
      ASSERT_EQ(Encode(bpe, piece), PlainBpe(unique, piece)) << piece;
    }
  }
}

}  // namespace
}  // namespace minicpmv
