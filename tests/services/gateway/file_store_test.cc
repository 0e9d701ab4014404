#include "services/gateway/file_store.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/base/standing_clock.h"

namespace minicpmv::gateway {
namespace {

using ::testing::HasSubstr;

StoredFile FileNamed(const std::string& id, int64_t size = 10, int64_t created = 1) {
  StoredFile file;
  file.id = id;
  file.filename = id + ".png";
  file.created = created;
  file.size = size;
  return file;
}

TEST(FileStoreTest, ShowsFilesToTheirTenantAlone) {
  FileStore store({});
  ASSERT_TRUE(store.Keep("alice", FileNamed("a")).ok());
  EXPECT_EQ(store.Find("alice", "a")->filename, "a.png");
  for (const char* const other : {"", "alic", "alice2", "bob"}) {
    EXPECT_EQ(store.Find(other, "a"), nullptr);
    EXPECT_EQ(store.Delete(other, "a"), nullptr);
    EXPECT_TRUE(store.List(other).empty());
  }
  EXPECT_EQ(store.Find("alice", "b"), nullptr);
  EXPECT_NE(store.Delete("alice", "a"), nullptr);
  EXPECT_EQ(store.Find("alice", "a"), nullptr);
}

TEST(FileStoreTest, TakesTheSameBytesForOneFile) {
  FileStore store({});
  ASSERT_TRUE(store.Keep("alice", FileNamed("a", 10, 1)).ok());
  EXPECT_EQ((*store.Keep("alice", FileNamed("a", 10, 2)))->created, 1);
  EXPECT_EQ((*store.Keep("bob", FileNamed("a", 10, 3)))->created, 3);
  EXPECT_EQ(store.List("alice").size(), 1u);
}

TEST(FileStoreTest, ListsTheOldestFirst) {
  FileStore store({});
  for (const auto& [id, created] : {std::pair("c", 2), std::pair("a", 3), std::pair("b", 2)}) {
    ASSERT_TRUE(store.Keep("alice", FileNamed(id, 1, created)).ok());
  }
  std::string ids;
  for (const FileStore::File& file : store.List("alice")) ids += file->id;
  EXPECT_EQ(ids, "bca");
}

TEST(FileStoreTest, LetsGoOfWhatIsNotUsed) {
  StandingClock clock;
  FileStore store({4096, 1000, absl::Hours(1)}, clock);
  ASSERT_TRUE(store.Keep("alice", FileNamed("a")).ok());
  clock.now += absl::Minutes(59);
  EXPECT_NE(store.Find("alice", "a"), nullptr);
  clock.now += absl::Minutes(59);
  EXPECT_EQ(store.List("alice").size(), 1u);
  clock.now += absl::Minutes(1);
  EXPECT_EQ(store.Find("alice", "a"), nullptr);
}

TEST(FileStoreTest, HasRoomForSoManyFilesAndBytes) {
  FileStore store({2, 100, absl::Hours(1)});
  ASSERT_TRUE(store.Keep("alice", FileNamed("a", 60)).ok());
  const absl::Status full = store.Keep("alice", FileNamed("b", 41)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_THAT(full.message(), HasSubstr("of yours"));
  ASSERT_TRUE(store.Keep("bob", FileNamed("b", 41)).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(store.Keep("carol", FileNamed("c", 1)).status()));
  EXPECT_TRUE(store.Keep("bob", FileNamed("b", 41)).ok());
  store.Delete("alice", "a");
  EXPECT_TRUE(store.Keep("carol", FileNamed("c", 1)).ok());
}

}  // namespace
}  // namespace minicpmv::gateway
