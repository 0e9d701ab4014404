#include "runtime/kv/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

class HostBuffer final : public Buffer {
 public:
  explicit HostBuffer(size_t bytes) : bytes_(bytes) {}
  void* data() override { return bytes_.data(); }
  size_t size() const override { return bytes_.size(); }

 private:
  std::vector<char> bytes_;
};

// Host memory up to a limit, and no streams.
class SmallDevice final : public Device {
 public:
  explicit SmallDevice(size_t room) : room_(room) {}
  const std::string& name() const override { return name_; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override {
    if (bytes > room_) return absl::ResourceExhaustedError("small:0 is full");
    room_ -= bytes;
    return std::make_unique<HostBuffer>(bytes);
  }
  std::unique_ptr<Stream> NewStream() override { return nullptr; }

 private:
  std::string name_ = "small:0";
  size_t room_;
};

TEST(KvCacheTest, HasOneViewALayer) {
  SmallDevice device(1 << 20);
  const CacheShape shape = {DType::kBF16, 2, 32};
  EXPECT_EQ(shape.page_bytes(), 2u * 2 * 16 * 32 * 2);
  const KvCache cache = KvCache::Create(device, shape, /*layers=*/3, /*pages=*/5).value();
  ASSERT_EQ(cache.layers().size(), 3u);
  EXPECT_NE(cache.layers()[0].data, cache.layers()[1].data);
  for (const CacheLayer& layer : cache.layers()) {
    EXPECT_EQ(layer.pages, 5);
    EXPECT_EQ(layer.page_bytes(), shape.page_bytes());
    EXPECT_EQ(layer.dtype, DType::kBF16);
  }
  EXPECT_EQ(cache.bytes(), 3 * 5 * shape.page_bytes());
}

TEST(KvCacheTest, SaysWhenTheDeviceIsFull) {
  SmallDevice device(1 << 14);
  const CacheShape shape = {DType::kF32, 2, 32};
  EXPECT_TRUE(absl::IsResourceExhausted(KvCache::Create(device, shape, 2, 2).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(
      KvCache::Create(device, {DType::kF32, 1 << 20, 1 << 20}, 1, 1 << 30).status()));
}

TEST(KvCacheTest, RefusesSizesThatAreNone) {
  SmallDevice device(1 << 20);
  for (const auto& [layers, pages] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 1}, {1, 0}, {1, -1}, {1, std::numeric_limits<int64_t>::max()}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        KvCache::Create(device, {DType::kF32, 1, 8}, layers, pages).status()))
        << layers << " " << pages;
  }
  EXPECT_THAT(KvCache::Create(device, {DType::kI32, 1, 8}, 1, 1).status().message(),
              HasSubstr("i32"));
}

}  // namespace
}  // namespace minicpmv
