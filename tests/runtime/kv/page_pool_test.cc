#include "runtime/kv/page_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace minicpmv {
namespace {

using ::testing::ElementsAre;

TEST(PagePoolTest, GivesOutEachPageOnce) {
  PagePool pool(3);
  const std::vector<int32_t> taken = pool.Take(3).value();
  EXPECT_THAT(taken, ElementsAre(0, 1, 2));
  EXPECT_EQ(pool.free_pages(), 0);
  for (int32_t page : taken) pool.Release(page);
  EXPECT_EQ(pool.free_pages(), 3);
}

TEST(PagePoolTest, TakesNothingWhenItCannotTakeAll) {
  PagePool pool(4);
  const std::vector<int32_t> first = pool.Take(3).value();
  EXPECT_TRUE(absl::IsResourceExhausted(pool.Take(2).status()));
  EXPECT_EQ(pool.free_pages(), 1);
  EXPECT_THAT(pool.Take(0).value(), ElementsAre());
  for (int32_t page : first) pool.Release(page);
}

TEST(PagePoolTest, APageIsFreeWhenTheLastReferenceGoes) {
  PagePool pool(1);
  const int32_t page = pool.Take(1).value()[0];
  pool.Share(page);
  EXPECT_EQ(pool.references(page), 2);
  pool.Release(page);
  EXPECT_EQ(pool.free_pages(), 0);
  pool.Release(page);
  EXPECT_EQ(pool.references(page), 0);
  EXPECT_EQ(pool.free_pages(), 1);
}

TEST(PagePoolDeathTest, EndsTheProcessWhenAPageComesBackTwice) {
  PagePool pool(1);
  pool.Release(pool.Take(1).value()[0]);
  EXPECT_DEATH(pool.Release(0), "page 0");
  EXPECT_DEATH(pool.Share(0), "page 0");
  EXPECT_DEATH(pool.Share(1), "1 of 1");
}

TEST(PagePoolDeathTest, EndsTheProcessWhenAPageIsLost) {
  EXPECT_DEATH(
      {
        PagePool pool(2);
        (void)pool.Take(1);
      },
      "1 against 2");
}

TEST(PagePoolTest, AKeptPageIsIdleWhileNobodyElseHoldsIt) {
  PagePool pool(2);
  const int32_t page = pool.Take(1)->front();
  pool.Keep(page);
  EXPECT_EQ(pool.idle_pages(), 0);
  pool.Release(page);
  EXPECT_EQ(pool.idle_pages(), 1);
  EXPECT_EQ(pool.free_pages(), 1);
  pool.Share(page);
  EXPECT_EQ(pool.idle_pages(), 0);
  pool.Drop(page);
  EXPECT_EQ(pool.idle_pages(), 0);
  pool.Keep(page);
  pool.Release(page);
  pool.Drop(page);
  EXPECT_EQ(pool.idle_pages(), 0);
  EXPECT_EQ(pool.free_pages(), 2);
}

}  // namespace
}  // namespace minicpmv
