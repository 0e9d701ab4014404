#include "runtime/base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "absl/status/status.h"
#include "tests/runtime/base/temp_folder.h"

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

class MappedFileTest : public ::testing::Test {
 protected:
  std::string Written(const std::string& name, absl::string_view bytes) const {
    const std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  const TempFolder folder_;
};

TEST_F(MappedFileTest, ShowsTheBytesOfTheFile) {
  const std::string path = Written("bytes", absl::string_view("ab\0c", 4));
  const auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(
      absl::string_view(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()),
      absl::string_view("ab\0c", 4));
  EXPECT_EQ(file->path(), path);
}

TEST_F(MappedFileTest, KeepsItsBytesWhenMoved) {
  MappedFile first = *MappedFile::Open(Written("first", "first"));
  const uint8_t* const data = first.bytes().data();
  MappedFile second = *MappedFile::Open(Written("second", "2"));
  second = std::move(first);
  EXPECT_EQ(second.bytes().data(), data);
  const MappedFile third(std::move(second));
  EXPECT_EQ(third.bytes().size(), 5u);
  EXPECT_EQ(third.bytes()[4], 't');
}

TEST_F(MappedFileTest, OutlivesTheFilesName) {
  const std::string path = Written("removed", "still here");
  const MappedFile file = *MappedFile::Open(path);
  ASSERT_EQ(std::remove(path.c_str()), 0);
  EXPECT_EQ(file.bytes()[0], 's');
}

TEST_F(MappedFileTest, GivesAnEmptySpanForAnEmptyFile) {
  const auto file = MappedFile::Open(Written("empty", ""));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->bytes().empty());
}

TEST_F(MappedFileTest, NamesAFileThatIsNotThere) {
  const absl::Status status = MappedFile::Open("/nowhere/at_all").status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(status.message(), HasSubstr("/nowhere/at_all"));
  EXPECT_TRUE(absl::IsNotFound(MappedFile::Open("").status()));
  EXPECT_TRUE(absl::IsNotFound(MappedFile::Open(Written("plain", "x") + "/below").status()));
}

TEST_F(MappedFileTest, RefusesWhatIsNoRegularFileWithoutWaiting) {
  EXPECT_TRUE(absl::IsInvalidArgument(MappedFile::Open(folder_.path()).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MappedFile::Open("/dev/null").status()));
  const std::string fifo = folder_ / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(MappedFile::Open(fifo).status()));
}

TEST_F(MappedFileTest, IsReadAsAStringUpToALimit) {
  const std::string path = Written("five", "12345");
  EXPECT_EQ(*ReadFile(path, 5), "12345");
  const absl::Status status = ReadFile(path, 4).status();
  EXPECT_TRUE(absl::IsOutOfRange(status));
  EXPECT_THAT(status.message(), HasSubstr("5 bytes, at most 4"));
  EXPECT_EQ(*ReadFile(Written("empty", ""), 0), "");
}

}  // namespace
}  // namespace minicpmv
