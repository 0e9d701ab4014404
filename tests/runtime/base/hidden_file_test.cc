#include "runtime/base/hidden_file.h"

#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "tests/runtime/base/temp_folder.h"

namespace minicpmv {
namespace {

TEST(HiddenFileTest, ReadsBackWhatWasAppended) {
  const TempFolder folder;
  absl::StatusOr<HiddenFile> file = HiddenFile::Create(folder.path());
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Append("Hello, ").ok());
  ASSERT_TRUE(file->Append("").ok());
  ASSERT_TRUE(file->Append("world").ok());
  EXPECT_EQ(file->size(), 12u);
  EXPECT_EQ(*file->Read(0, 12), "Hello, world");
  EXPECT_EQ(*file->Read(5, 4), ", wo");
  EXPECT_EQ(*file->Read(12, 0), "");
  const HiddenFile moved = *std::move(file);
  EXPECT_EQ(*moved.Read(7, 5), "world");
}

TEST(HiddenFileTest, IsNowhereToBeFound) {
  const TempFolder folder;
  absl::StatusOr<HiddenFile> file = HiddenFile::Create(folder.path());
  ASSERT_TRUE(file.ok() && file->Append("x").ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(HiddenFileTest, RefusesWhatIsBeyondItsEnd) {
  const TempFolder folder;
  absl::StatusOr<HiddenFile> file = HiddenFile::Create(folder.path());
  ASSERT_TRUE(file.ok() && file->Append("Hello").ok());
  EXPECT_TRUE(absl::IsDataLoss(file->Read(0, 6).status()));
  EXPECT_TRUE(absl::IsDataLoss(file->Read(6, 0).status()));
  EXPECT_TRUE(absl::IsDataLoss(file->Read(1, SIZE_MAX).status()));
}

TEST(HiddenFileTest, SaysThatThereIsNoFolder) {
  EXPECT_TRUE(absl::IsUnavailable(HiddenFile::Create("/absent").status()));
}

TEST(HiddenFileTest, SaysThatTheDiskIsFullAndHoldsWhatItHeld) {
  const TempFolder folder;
  absl::StatusOr<HiddenFile> file = HiddenFile::Create(folder.path());
  ASSERT_TRUE(file.ok() && file->Append(std::string(1000, 'a')).ok());
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {1500, before.rlim_max};
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status full = file->Append(std::string(1000, 'b'));
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old);
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_EQ(file->size(), 1000u);
  ASSERT_TRUE(file->Append("c").ok());
  EXPECT_EQ(*file->Read(999, 2), "ac");
}

}  // namespace
}  // namespace minicpmv
