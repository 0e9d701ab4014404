#include "services/gateway/body.h"

#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "services/common/metrics.h"
#include "tests/runtime/base/temp_folder.h"

namespace minicpmv::gateway {
namespace {

class BodyTest : public ::testing::Test {
 protected:
  Metrics metrics_;
  prometheus::Gauge& memory_bytes_ = metrics_.Gauge("minicpmv_memory", "m");
  prometheus::Gauge& disk_bytes_ = metrics_.Gauge("minicpmv_disk", "d");
  Allowance memory_{100, memory_bytes_}, disk_{200, disk_bytes_}, none_{0, disk_bytes_};
  const TempFolder folder_;
  const BodyRoom room_{memory_, disk_, folder_.path(), /*in_memory=*/50};
  const BodyRoom diskless_{memory_, none_, folder_.path(), /*in_memory=*/50};
};

TEST_F(BodyTest, KeepsAFewBytesInMemoryAndManyOnTheDisk) {
  std::string all;
  Body body(room_);
  for (const char c : {'a', 'b', 'c', 'd'}) {
    all += std::string(20, c);
    EXPECT_EQ(body.StaysInMemory(20), all.size() <= 50);
    ASSERT_TRUE(body.Append(std::string(20, c)).ok());
    EXPECT_EQ(body.size(), static_cast<int64_t>(all.size()));
    EXPECT_EQ(memory_bytes_.Value(), all.size() <= 50 ? static_cast<double>(all.size()) : 0);
    EXPECT_EQ(disk_bytes_.Value(), all.size() <= 50 ? 0 : static_cast<double>(all.size()));
    EXPECT_EQ(*body.ReadSome(0, body.size()), all);
  }
  const absl::StatusOr<CountedBytes> read = body.Read(15, 10);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->bytes, "aaaaabbbbb");
  EXPECT_EQ(memory_bytes_.Value(), 10);
  EXPECT_TRUE(absl::IsDataLoss(body.Read(0, 81).status()));
  EXPECT_TRUE(absl::IsDataLoss(body.Read(-1, 1).status()));
  EXPECT_TRUE(absl::IsDataLoss(body.Read(1, INT64_MAX).status()));
}

TEST_F(BodyTest, GivesBackWhatItHeld) {
  {
    Body small(room_), large(room_);
    ASSERT_TRUE(small.Append(std::string(30, 's')).ok());
    ASSERT_TRUE(large.Append(std::string(60, 'l')).ok());
    const absl::StatusOr<CountedBytes> taken = std::move(small).Take();
    ASSERT_TRUE(taken.ok());
    EXPECT_EQ(taken->bytes.size(), 30u);
    EXPECT_EQ(memory_bytes_.Value(), 30);
    const absl::StatusOr<CountedBytes> loaded = std::move(large).Take();
    ASSERT_TRUE(loaded.ok());
    EXPECT_EQ(memory_bytes_.Value(), 90);
  }
  EXPECT_EQ(memory_bytes_.Value(), 0);
  EXPECT_EQ(disk_bytes_.Value(), 0);
}

TEST_F(BodyTest, RefusesWhatAllTogetherMayNotHave) {
  Body first(room_), second(room_);
  ASSERT_TRUE(first.Append(std::string(150, 'x')).ok());
  EXPECT_TRUE(absl::IsUnavailable(second.Append(std::string(51, 'x'))));
  EXPECT_TRUE(absl::IsUnavailable(first.Read(0, 101).status()));
  EXPECT_TRUE(absl::IsUnavailable(std::move(first).Take().status()));
}

TEST_F(BodyTest, StaysInMemoryWhereThereIsNoDisk) {
  Body body(diskless_);
  EXPECT_TRUE(body.StaysInMemory(100));
  ASSERT_TRUE(body.Append(std::string(100, 'x')).ok());
  EXPECT_TRUE(absl::IsUnavailable(body.Append("x")));
  EXPECT_EQ(memory_bytes_.Value(), 100);
}

TEST_F(BodyTest, SaysThatTheDiskTakesNothing) {
  const BodyRoom absent{memory_, disk_, "/absent", /*in_memory=*/0};
  Body body(absent);
  EXPECT_TRUE(absl::IsResourceExhausted(body.Append("x")));
}

}  // namespace
}  // namespace minicpmv::gateway
