#include "services/decode/page_arrivals.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

namespace minicpmv {
namespace {

// Two layers; a sequence of 16 held and 37 positions in all: pages 1 and 2 are awaited.
class PageArrivalsTest : public ::testing::Test {
 protected:
  static constexpr int64_t kTokens = 37;

  PageArrivalsTest() {
    for (CacheLayer& layer : layers_) {
      layer = {nullptr, DType::kF16, /*pages=*/4, /*kv_heads=*/2, /*head_size=*/8};
      bytes_.emplace_back(4 * layer.page_bytes());
      layer.data = bytes_.back().data();
    }
  }

  ParcelLabel LabelOf(int64_t layer, int64_t first, int64_t count, int64_t pages) const {
    ParcelLabel label;
    label.kind = ParcelKind::kPages;
    label.index = layer;
    label.first = first;
    label.count = count;
    label.dtype = DType::kF16;
    label.bytes = static_cast<uint64_t>(pages) * layers_[0].page_bytes();
    return label;
  }
  bool Refuses(const ParcelLabel& label) {
    return absl::IsInvalidArgument(arrivals_.Place(label).status());
  }

  std::vector<std::vector<uint8_t>> bytes_;
  std::vector<CacheLayer> layers_{2};
  PageArrivals arrivals_{LandingPagesOf(layers_), DType::kF16};

 private:
  static LandingPages LandingPagesOf(const std::vector<CacheLayer>& layers) {
    return LandingPages(layers, {3, 0, 2}, /*held_tokens=*/16, kTokens);
  }
};

TEST_F(PageArrivalsTest, IsCompleteWhenEachPageOfEachLayerHasLanded) {
  EXPECT_EQ(arrivals_.held_tokens(), 16);
  EXPECT_EQ(arrivals_.awaited(), 4);
  const ParcelLabel parts[] = {LabelOf(1, 16, 21, 2), LabelOf(0, 32, 5, 1), LabelOf(0, 16, 16, 1)};
  for (const ParcelLabel& label : parts) {
    EXPECT_FALSE(arrivals_.complete());
    ASSERT_TRUE(arrivals_.Place(label).ok());
  }
  for (const ParcelLabel& label : parts) {
    EXPECT_FALSE(arrivals_.complete());
    arrivals_.Landed(label, true);
  }
  EXPECT_TRUE(arrivals_.complete());
}

TEST_F(PageArrivalsTest, PlacesPagesWhereTheSequenceHasThem) {
  const auto places = arrivals_.Place(LabelOf(1, 16, 21, 2));
  ASSERT_TRUE(places.ok());
  ASSERT_EQ(places->size(), 2u);
  EXPECT_EQ((*places)[0].data, layers_[1].Page(0).data);
  EXPECT_EQ((*places)[1].data, layers_[1].Page(2).data);
}

TEST_F(PageArrivalsTest, NeedsNothingWhereAllIsHeld) {
  const PageArrivals all(LandingPages(layers_, {0, 1, 2}, 32, 32), DType::kF16);
  EXPECT_TRUE(all.complete());
  const PageArrivals none(LandingPages(layers_, {0}, 0, 0), DType::kF16);
  EXPECT_TRUE(none.complete());
}

TEST_F(PageArrivalsTest, RefusesALabelThatLies) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  for (const auto& [layer, first, count] :
       std::vector<std::tuple<int64_t, int64_t, int64_t>>{{2, 16, 16},
                                                          {-1, 16, 16},
                                                          {kHuge, 16, 16},
                                                          {0, 0, 16},
                                                          {0, 17, 16},
                                                          {0, 16, 15},
                                                          {0, 16, 0},
                                                          {0, 16, -16},
                                                          {0, 16, kHuge},
                                                          {0, kHuge, 16},
                                                          {0, -16, 16},
                                                          {0, 32, 6},
                                                          {0, 48, 16},
                                                          {0, 32, 16},
                                                          {0, kHuge - 15, kHuge - 15}}) {
    EXPECT_TRUE(Refuses(LabelOf(layer, first, count, 1))) << layer << " " << first << " " << count;
  }
  ParcelLabel label = LabelOf(0, 16, 16, 1);
  label.kind = ParcelKind::kRows;
  EXPECT_TRUE(Refuses(label));
  label = LabelOf(0, 16, 16, 1);
  label.dtype = DType::kBF16;
  EXPECT_TRUE(Refuses(label));
  EXPECT_TRUE(Refuses(LabelOf(0, 16, 16, 2)));
  label = LabelOf(0, 16, 16, 1);
  --label.bytes;
  EXPECT_TRUE(Refuses(label));
  EXPECT_EQ(arrivals_.landed(), 0);
}

TEST_F(PageArrivalsTest, TakesAPageOnceUnlessItDidNotCome) {
  const ParcelLabel label = LabelOf(0, 16, 16, 1);
  ASSERT_TRUE(arrivals_.Place(label).ok());
  EXPECT_TRUE(Refuses(label));
  EXPECT_TRUE(Refuses(LabelOf(0, 16, 21, 2)));
  arrivals_.Landed(label, false);
  EXPECT_EQ(arrivals_.landed(), 0);
  ASSERT_TRUE(arrivals_.Place(label).ok());
  arrivals_.Landed(label, true);
  EXPECT_EQ(arrivals_.landed(), 1);
  EXPECT_TRUE(Refuses(label));
}

}  // namespace
}  // namespace minicpmv
