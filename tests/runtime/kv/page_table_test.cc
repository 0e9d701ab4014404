#include "runtime/kv/page_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int32_t> PagesOf(const PageTable& table) {
  return {table.pages().begin(), table.pages().end()};
}

TEST(PageTableTest, CountsPagesWithoutOverflow) {
  EXPECT_EQ(PagesFor(0), 0);
  EXPECT_EQ(PagesFor(1), 1);
  EXPECT_EQ(PagesFor(16), 1);
  EXPECT_EQ(PagesFor(17), 2);
  EXPECT_EQ(PagesFor(std::numeric_limits<int64_t>::max()), int64_t{1} << 59);
}

TEST(PageTableTest, TakesNothingWhenItCannotTakeAll) {
  PagePool pool(4);
  PageTable first(pool);
  EXPECT_TRUE(first.Grow(40).ok());  // three pages
  PageTable second(pool);
  EXPECT_TRUE(absl::IsResourceExhausted(second.Grow(40)));
  EXPECT_EQ(pool.free_pages(), 1);
  EXPECT_EQ(second.capacity(), 0);
}

TEST(PageTableTest, GrowsPageByPage) {
  PagePool pool(4);
  PageTable table(pool);
  EXPECT_TRUE(table.Grow(16).ok());
  EXPECT_EQ(table.capacity(), 16);
  EXPECT_TRUE(table.Grow(17).ok());
  EXPECT_TRUE(table.Grow(5).ok());
  EXPECT_THAT(PagesOf(table), ElementsAre(0, 1));
}

TEST(PageTableTest, GivesPagesBackWhenItGoes) {
  PagePool pool(4);
  {
    PageTable table(pool);
    EXPECT_TRUE(table.Grow(64).ok());
    PageTable moved = std::move(table);
    EXPECT_EQ(moved.capacity(), 64);
    EXPECT_EQ(pool.free_pages(), 0);
    PageTable other(pool);
    moved = std::move(other);
    EXPECT_EQ(pool.free_pages(), 4);
  }
  EXPECT_EQ(pool.free_pages(), 4);
}

TEST(PageTableTest, AForkSharesEveryPageUntilOneWrites) {
  PagePool pool(8);
  PageTable table(pool);
  EXPECT_TRUE(table.Grow(40).ok());
  PageTable fork = table.Fork();
  EXPECT_EQ(pool.free_pages(), 5);

  // Position 38 lies on the third page: the fork gets a copy, and the first two stay shared.
  std::vector<PageCopy> copies;
  EXPECT_EQ(fork.PagesToWrite(38, 1), 1);
  EXPECT_TRUE(fork.PrepareWrite(38, 1, &copies).ok());
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].from, table.pages()[2]);
  EXPECT_EQ(copies[0].to, fork.pages()[2]);
  EXPECT_EQ(fork.pages()[1], table.pages()[1]);

  // Now both own their third page: no more copies, for either.
  copies.clear();
  EXPECT_TRUE(fork.PrepareWrite(39, 1, &copies).ok());
  EXPECT_TRUE(table.PrepareWrite(38, 2, &copies).ok());
  EXPECT_THAT(copies, IsEmpty());
}

TEST(PageTableTest, AWriteThatFindsNoRoomChangesNothing) {
  PagePool pool(3);
  PageTable table(pool);
  EXPECT_TRUE(table.Grow(32).ok());
  PageTable fork = table.Fork();
  const std::vector<int32_t> before = PagesOf(fork);
  std::vector<PageCopy> copies;
  EXPECT_EQ(fork.PagesToWrite(30, 10), 2);
  EXPECT_TRUE(absl::IsResourceExhausted(fork.PrepareWrite(30, 10, &copies)));
  EXPECT_EQ(PagesOf(fork), before);
  EXPECT_THAT(copies, IsEmpty());
  EXPECT_EQ(pool.free_pages(), 1);
}

TEST(PageTableTest, AWriteMayCopyAndGrowAtOnce) {
  PagePool pool(5);
  PageTable table(pool);
  EXPECT_TRUE(table.Grow(32).ok());
  PageTable fork = table.Fork();
  std::vector<PageCopy> copies;
  EXPECT_TRUE(fork.PrepareWrite(30, 10, &copies).ok());
  EXPECT_EQ(copies.size(), 1u);
  EXPECT_EQ(fork.pages().size(), 3u);
  EXPECT_EQ(pool.free_pages(), 1);
}

TEST(PageTableTest, AdoptsPagesWithTheirReferences) {
  PagePool pool(2);
  const std::vector<int32_t> held = pool.Take(1).value();
  {
    PageTable table(pool);
    table.Adopt(held);
    EXPECT_TRUE(table.Grow(20).ok());
    EXPECT_EQ(table.pages()[0], held[0]);
  }
  EXPECT_EQ(pool.free_pages(), 2);
}

// Random forks, writes and ends, with the bytes of pages played by a map: every table reads what it
// wrote.
TEST(PageTableTest, ForksNeverSeeEachOthersWrites) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    PagePool pool(40);
    struct Held {
      PageTable table;
      std::vector<int> written;  // by position
    };
    std::vector<Held> all;
    std::map<int64_t, int> bytes;  // by page and offset
    for (int event = 0; event < 400; ++event) {
      const size_t which = all.empty() ? 0 : random() % all.size();
      switch (random() % 4) {
        case 0:
          if (all.size() < 6) all.push_back({PageTable(pool), {}});
          break;
        case 1:
          if (!all.empty() && all.size() < 6) {
            all.push_back({all[which].table.Fork(), all[which].written});
          }
          break;
        case 2:
          if (!all.empty() && random() % 4 == 0) all.erase(all.begin() + which);
          break;
        default: {
          if (all.empty()) break;
          Held& held = all[which];
          const int64_t size = static_cast<int64_t>(held.written.size());
          const int64_t first = size == 0 ? 0 : std::max<int64_t>(0, size - int64_t(random() % 20));
          const int64_t count = 1 + random() % 20;
          std::vector<PageCopy> copies;
          if (!held.table.PrepareWrite(first, count, &copies).ok()) break;
          for (const PageCopy& copy : copies) {
            for (int i = 0; i < kPageSize; ++i) {
              bytes[int64_t{copy.to} * kPageSize + i] = bytes[int64_t{copy.from} * kPageSize + i];
            }
          }
          held.written.resize(std::max(size, first + count));
          for (int64_t p = first; p < first + count; ++p) {
            held.written[p] = static_cast<int>(random());
            bytes[int64_t{held.table.pages()[p / kPageSize]} * kPageSize + p % kPageSize] =
                held.written[p];
          }
        }
      }
      for (const Held& held : all) {
        for (size_t p = 0; p < held.written.size(); ++p) {
          ASSERT_EQ(bytes[int64_t{held.table.pages()[p / kPageSize]} * kPageSize + p % kPageSize],
                    held.written[p])
              << "seed " << seed << " event " << event << " position " << p;
        }
      }
    }
    all.clear();
    EXPECT_EQ(pool.free_pages(), pool.pages());
  }
}

}  // namespace
}  // namespace minicpmv
