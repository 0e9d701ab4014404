#include "runtime/media/resize.h"

#include <zlib.h>

#include "gtest/gtest.h"
#include "tests/runtime/media/media_files.h"

namespace minicpmv {
namespace {

TEST(ResizeTest, EqualsPillowBitForBit) {
  const nlohmann::json all = TestJson("images/resize.json");
  for (const nlohmann::json& expected : all["cases"]) {
    const Image image = SyntheticImage(expected["from"][0], expected["from"][1]);
    const Image resized = ResizeBicubic(image, expected["to"][0], expected["to"][1]);
    EXPECT_EQ(crc32(0, resized.rgb.data(), static_cast<uInt>(resized.rgb.size())),
              expected["crc32"].get<uint32_t>())
        << expected;
    EXPECT_EQ(resized.width, expected["to"][0].get<int>());
    EXPECT_EQ(resized.height, expected["to"][1].get<int>());
  }
}

TEST(ResizeTest, KeepsAFlatPictureFlat) {
  const Image white{37, 29, Bytes(3 * 37 * 29, 255)};
  for (const int side : {1, 14, 200}) {
    EXPECT_EQ(ResizeBicubic(white, side, side).rgb, Bytes(3 * side * side, 255));
  }
}

TEST(ResizeTest, StretchesTheNarrowest) {
  EXPECT_EQ(ResizeBicubic(SyntheticImage(1, 30000), 14, 24542).rgb.size(), 3u * 14 * 24542);
  EXPECT_EQ(ResizeBicubic(SyntheticImage(30000, 1), 24542, 14).rgb.size(), 3u * 14 * 24542);
}

}  // namespace
}  // namespace minicpmv
