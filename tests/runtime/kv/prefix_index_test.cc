#include "runtime/kv/prefix_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "runtime/kernels/step_batch.h"
#include "runtime/kv/page_table.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const PrefixContext kContext = {"model", "bf16/4x128", "cpu-fma-1", "tenant"};

std::vector<int32_t> Tokens(int64_t count, int32_t first = 0) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(PageKeysTest, OnlyFullPagesHaveOne) {
  EXPECT_THAT(PageKeysOf(kContext, Tokens(15), {}), IsEmpty());
  EXPECT_EQ(PageKeysOf(kContext, Tokens(16), {}).size(), 1u);
  EXPECT_EQ(PageKeysOf(kContext, Tokens(47), {}).size(), 2u);
}

TEST(PageKeysTest, AKeyCoversAllThatLiesBefore) {
  std::vector<int32_t> other = Tokens(48);
  other[3] = 7;
  const auto a = PageKeysOf(kContext, Tokens(48), {});
  const auto b = PageKeysOf(kContext, other, {});
  for (int i = 0; i < 3; ++i) EXPECT_NE(a[i], b[i]) << i;
  other = Tokens(48);
  other[20] = 7;
  const auto c = PageKeysOf(kContext, other, {});
  EXPECT_EQ(a[0], c[0]);
  EXPECT_NE(a[1], c[1]);
  EXPECT_NE(a[2], c[2]);
}

TEST(PageKeysTest, EveryFieldMakesAnotherKey) {
  const std::vector<int32_t> tokens = Tokens(32);
  std::set<PageKey> keys;
  int variants = 0;
  const auto add = [&](const PrefixContext& context, std::vector<PrefixSpan> spans) {
    for (const PageKey& key : PageKeysOf(context, tokens, spans)) keys.insert(key);
    ++variants;
  };
  add(kContext, {});
  add({"Model", "bf16/4x128", "cpu-fma-1", "tenant"}, {});
  add({"model", "f32/4x128", "cpu-fma-1", "tenant"}, {});
  add({"model", "bf16/4x128", "cpu-fma-2", "tenant"}, {});
  add({"model", "bf16/4x128", "cpu-fma-1", "other"}, {});
  add({"modelb", "f16/4x128", "cpu-fma-1", "tenant"}, {});  // the same bytes, cut elsewhere
  add(kContext, {{2, 20, "digest 0,0,448,448"}});
  add(kContext, {{3, 19, "digest 0,0,448,448"}});
  add(kContext, {{2, 21, "digest 0,0,448,448"}});
  add(kContext, {{2, 20, "Digest 0,0,448,448"}});
  add(kContext, {{2, 10, "digest 0,0,448,448"}, {12, 10, "digest 0,0,448,448"}});
  // Two pages each; the spans of 20 and 21 rows fill the first page alike.
  EXPECT_EQ(keys.size(), 2u * variants - 1);
}

TEST(PageKeysTest, ASpanBehindAPageDoesNotTouchIt) {
  const auto plain = PageKeysOf(kContext, Tokens(48), {});
  const auto spanned = PageKeysOf(kContext, Tokens(48), {{{16, 8, "d"}}});
  EXPECT_EQ(plain[0], spanned[0]);
  EXPECT_NE(plain[1], spanned[1]);
  EXPECT_NE(plain[2], spanned[2]);  // through the page before
}

TEST(PageKeysTest, NoPageHasOneFromASpanWithoutANameOn) {
  const auto plain = PageKeysOf(kContext, Tokens(80), {});
  const auto spanned = PageKeysOf(kContext, Tokens(80), {{{40, 2, ""}}});
  ASSERT_EQ(spanned.size(), 2u);
  EXPECT_EQ(spanned[1], plain[1]);
}

TEST(PageKeysTest, AChainGrowsWithItsSequence) {
  const std::vector<int32_t> tokens = Tokens(200);
  for (const std::string content : {"d", ""}) {
    const std::vector<PrefixSpan> spans = {{3, 40, "a"}, {43, 9, "b"}, {90, 30, content}};
    PageKeyChain chain(kContext);
    for (size_t count = 0; count <= tokens.size(); count += 1 + count % 23) {
      const absl::Span<const int32_t> so_far = absl::MakeConstSpan(tokens).first(count);
      chain.Extend(so_far, spans);
      EXPECT_EQ(chain.keys(), absl::MakeConstSpan(PageKeysOf(kContext, so_far, spans))) << count;
    }
  }
}

class PrefixIndexTest : public ::testing::Test {
 protected:
  // Fills the pages of `tokens` and leaves them to the index.
  void Remember(const std::vector<int32_t>& tokens) {
    PageTable table(pool_);
    ASSERT_TRUE(table.Grow(static_cast<int64_t>(tokens.size())).ok());
    const auto keys = PageKeysOf(kContext, tokens, {});
    index_.Insert(keys, table.pages());
  }
  int64_t HeldTokens(const std::vector<int32_t>& tokens) {
    PageTable table(pool_);
    const PrefixIndex::Hit hit = index_.Lookup(PageKeysOf(kContext, tokens, {}));
    table.Adopt(hit.pages);
    return hit.tokens;
  }

  PagePool pool_{6};
  PrefixIndex index_{pool_};
};

TEST_F(PrefixIndexTest, HoldsFullPagesOnly) {
  Remember(Tokens(40));
  EXPECT_EQ(index_.size(), 2);
  EXPECT_EQ(pool_.free_pages(), 4);
  EXPECT_EQ(HeldTokens(Tokens(40)), 32);
  EXPECT_EQ(HeldTokens(Tokens(20)), 16);
  EXPECT_EQ(HeldTokens(Tokens(15)), 0);
  EXPECT_EQ(HeldTokens(Tokens(40, 1)), 0);
}

TEST_F(PrefixIndexTest, TheFinderOwnsAReferenceOnEachPage) {
  Remember(Tokens(32));
  PageTable table(pool_);
  table.Adopt(index_.Lookup(PageKeysOf(kContext, Tokens(32), {})).pages);
  EXPECT_EQ(pool_.idle_pages(), 0);
  EXPECT_EQ(index_.Reclaim(10), 0);
  table.Clear();
  EXPECT_EQ(pool_.idle_pages(), 2);
  EXPECT_EQ(index_.Reclaim(10), 2);
  EXPECT_EQ(pool_.free_pages(), 6);
}

TEST_F(PrefixIndexTest, AKnownKeyKeepsItsPage) {
  Remember(Tokens(32));
  const PrefixIndex::Hit before = index_.Lookup(PageKeysOf(kContext, Tokens(32), {}));
  Remember(Tokens(32));
  EXPECT_EQ(index_.size(), 2);
  const PrefixIndex::Hit after = index_.Lookup(PageKeysOf(kContext, Tokens(32), {}));
  EXPECT_EQ(before.pages, after.pages);
  for (int i = 0; i < 2; ++i) {
    for (int32_t page : before.pages) pool_.Release(page);
  }
}

TEST_F(PrefixIndexTest, ReclaimsWhatWasUsedLeastRecently) {
  Remember(Tokens(16, 100));
  Remember(Tokens(16, 200));
  Remember(Tokens(16, 300));
  EXPECT_EQ(HeldTokens(Tokens(16, 100)), 16);  // used again
  EXPECT_EQ(index_.Reclaim(1), 1);
  EXPECT_EQ(HeldTokens(Tokens(16, 200)), 0);
  EXPECT_EQ(HeldTokens(Tokens(16, 300)), 16);
  EXPECT_EQ(HeldTokens(Tokens(16, 100)), 16);
}

TEST_F(PrefixIndexTest, ReclaimsTheEndOfASequenceBeforeItsStart) {
  Remember(Tokens(48));
  EXPECT_EQ(index_.Reclaim(1), 1);
  EXPECT_EQ(HeldTokens(Tokens(48)), 32);
  EXPECT_EQ(index_.Reclaim(1), 1);
  EXPECT_EQ(HeldTokens(Tokens(48)), 16);
}

TEST_F(PrefixIndexTest, GivesItsPagesBackWhenItGoes) {
  {
    PrefixIndex other(pool_);
    PageTable table(pool_);
    ASSERT_TRUE(table.Grow(32).ok());
    other.Insert(PageKeysOf(kContext, Tokens(32), {}), table.pages());
  }
  EXPECT_EQ(pool_.free_pages(), 6);
}

}  // namespace
}  // namespace minicpmv
