#include "tools/minicpmv/load/drawn_picture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "absl/types/span.h"
#include "runtime/media/image.h"
#include "tools/minicpmv/load/load_text.h"

namespace minicpmv {
namespace {

absl::StatusOr<Image> Decode(const std::string& png) {
  return DecodeImage(absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(png.data()), png.size()),
                     Exif::kApply);
}

TEST(DrawnPictureTest, IsAPngOfItsSize) {
  for (const auto& [width, height] : {std::pair(1, 1), {14, 300}, {501, 377}}) {
    const absl::StatusOr<Image> image = Decode(DrawPicture(width, height, 7));
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_EQ(image->width, width);
    EXPECT_EQ(image->height, height);
  }
}

TEST(DrawnPictureTest, IsDrawnBySeed) {
  EXPECT_EQ(DrawPicture(60, 40, 1), DrawPicture(60, 40, 1));
  std::set<std::string> different;
  for (uint64_t seed = 0; seed < 200; ++seed) different.insert(DrawPicture(60, 40, seed));
  EXPECT_EQ(different.size(), 200u);
}

TEST(LoadTextTest, IsDrawnByWordsAndSeed) {
  std::mt19937_64 one(1), again(1), other(2);
  const std::string text = DrawText(100, one);
  EXPECT_EQ(std::count(text.begin(), text.end(), ' '), 99);
  EXPECT_EQ(DrawText(100, again), text);
  EXPECT_NE(DrawText(100, other), text);
  const std::string all = AllWords(2);
  EXPECT_EQ(std::count(all.begin(), all.end(), ' '), 2 * LoadWords() - 1);
}

}  // namespace
}  // namespace minicpmv
