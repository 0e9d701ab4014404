#include "services/vision/rows_cache.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>

#include "runtime/device/cpu_device.h"
#include "tests/services/vision/pictures.h"

namespace minicpmv::vision {
namespace {

constexpr size_t kSliceBytes = 2 * 8 * 4;

class RowsCacheTest : public ::testing::Test {
 protected:
  std::unique_ptr<RowsCache> Make(size_t capacity) {
    return Must(RowsCache::Create(device_, {DType::kF32, 2, 8}, capacity, [this] { ++rooms_; }));
  }
  static RowsCache::Pin Add(RowsCache& cache, const std::string& key) {
    std::optional<RowsCache::Place> place = Must(cache.Reserve());
    CHECK(place.has_value());
    return cache.Insert(key, *std::move(place));
  }

  CpuDevice device_{"cpu:0", 1};
  int rooms_ = 0;
};

TEST_F(RowsCacheTest, FindsWhatWasInserted) {
  const auto cache = Make(4 * kSliceBytes);
  std::optional<RowsCache::Place> place = Must(cache->Reserve());
  ASSERT_TRUE(place);
  place->rows.view.as<float>()[15] = 7;
  cache->Insert("a", *std::move(place));
  const RowsCache::Pin found = cache->Find("a");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->view.as<float>()[15], 7);
  EXPECT_EQ(found->view.shape, (Shape{2, 8}));
  EXPECT_FALSE(cache->Find("b"));
}

TEST_F(RowsCacheTest, KeepsPinnedRowsAndSaysWhenThereIsRoomAgain) {
  const auto cache = Make(2 * kSliceBytes);
  RowsCache::Pin a = Add(*cache, "a");
  RowsCache::Pin again = a.Again();
  RowsCache::Pin b = Add(*cache, "b");
  EXPECT_FALSE(Must(cache->Reserve()));
  EXPECT_EQ(cache->held_bytes(), 2 * kSliceBytes);
  a = RowsCache::Pin();
  EXPECT_FALSE(Must(cache->Reserve()));
  EXPECT_EQ(rooms_, 0);
  again = RowsCache::Pin();
  EXPECT_EQ(rooms_, 1);
  EXPECT_TRUE(Must(cache->Reserve()));
  EXPECT_FALSE(cache->Find("a"));
  EXPECT_TRUE(cache->Find("b"));
}

TEST_F(RowsCacheTest, RefusesToBeSmallerThanASlice) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      RowsCache::Create(device_, {DType::kF32, 2, 8}, kSliceBytes - 1, nullptr).status()));
}

TEST(RowsKeyTest, DiffersWithEverythingThatRowsDependOn) {
  const std::string digest(32, 'm'), model(32, 'f');
  common::v1::Slice slice;
  slice.set_grid_columns(2);
  slice.set_grid_rows(2);
  slice.set_index(1);
  slice.set_patch_columns(8);
  slice.set_patch_rows(9);
  common::v1::MediaOptions options;
  std::set<std::string> keys = {RowsKeyOf("s", digest, slice, options, model)};
  size_t different = 1;
  const auto add = [&](const std::string& key) {
    keys.insert(key);
    EXPECT_EQ(keys.size(), ++different);
  };
  add(RowsKeyOf("t", digest, slice, options, model));
  add(RowsKeyOf("s", std::string(32, 'n'), slice, options, model));
  add(RowsKeyOf("s", digest, slice, options, std::string(32, 'g')));
  for (const auto& change : std::initializer_list<void (*)(common::v1::Slice&)>{
           [](auto& s) { s.set_frame(1); }, [](auto& s) { s.set_grid_columns(3); },
           [](auto& s) { s.set_grid_rows(3); }, [](auto& s) { s.set_index(2); },
           [](auto& s) { s.set_patch_columns(9); }, [](auto& s) { s.set_patch_rows(8); }}) {
    common::v1::Slice other = slice;
    change(other);
    add(RowsKeyOf("s", digest, other, options, model));
  }
  common::v1::MediaOptions ignore;
  ignore.set_exif_orientation(common::v1::EXIF_ORIENTATION_IGNORE);
  add(RowsKeyOf("s", digest, slice, ignore, model));
  common::v1::MediaOptions apply;
  apply.set_exif_orientation(common::v1::EXIF_ORIENTATION_APPLY);
  EXPECT_TRUE(keys.contains(RowsKeyOf("s", digest, slice, apply, model)));
}

}  // namespace
}  // namespace minicpmv::vision
