#include "runtime/media/exif.h"

#include "gtest/gtest.h"
#include "tests/runtime/media/media_files.h"

namespace minicpmv {
namespace {

// Little-endian, one entry: the orientation, as a SHORT.
Bytes Block(uint8_t orientation) {
  return {'I', 'I', 42, 0, 8, 0,           0, 0, 1, 0, 0x12, 0x01, 3,
          0,   1,   0,  0, 0, orientation, 0, 0, 0, 0, 0,    0,    0};
}

Bytes BigEndianBlock(uint8_t orientation) {
  return {'M', 'M', 0, 42, 0, 0, 0,           8, 0, 1, 0x01, 0x12, 0,
          3,   0,   0, 0,  1, 0, orientation, 0, 0, 0, 0,    0,    0};
}

TEST(ExifTest, ReadsBothByteOrdersWithAndWithoutPrefix) {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    EXPECT_EQ(ExifOrientation(Block(orientation)), orientation);
    EXPECT_EQ(ExifOrientation(BigEndianBlock(orientation)), orientation);
    Bytes prefixed = BytesOf(absl::string_view("Exif\0\0", 6));
    Append(prefixed, Block(orientation));
    EXPECT_EQ(ExifOrientation(prefixed), orientation);
  }
}

TEST(ExifTest, TakesWhatIsMalformedAsUpright) {
  EXPECT_EQ(ExifOrientation({}), 1);
  EXPECT_EQ(ExifOrientation(BytesOf("II")), 1);
  EXPECT_EQ(ExifOrientation(BytesOf("not a TIFF header")), 1);
  EXPECT_EQ(ExifOrientation(Block(0)), 1);
  EXPECT_EQ(ExifOrientation(Block(9)), 1);
  Bytes mixed_order = Block(6);
  mixed_order[1] = 'M';
  EXPECT_EQ(ExifOrientation(mixed_order), 1);
  Bytes text_type = Block(6);
  text_type[12] = 2;
  EXPECT_EQ(ExifOrientation(text_type), 1);
  Bytes many_values = Block(6);
  many_values[14] = 2;
  EXPECT_EQ(ExifOrientation(many_values), 1);
}

TEST(ExifTest, NeverReadsPastTheBlock) {
  const Bytes block = Block(6);
  for (size_t size = 0; size < block.size(); ++size) {
    // An exact allocation, so that a sanitizer sees the first byte too many.
    const Bytes cut(block.begin(), block.begin() + size);
    EXPECT_EQ(ExifOrientation(cut), size < 22 ? 1 : 6) << size;
  }
}

TEST(ExifTest, SurvivesOffsetsAndCountsThatLie) {
  for (const uint8_t high : {0x00, 0x7f, 0x80, 0xff}) {
    Bytes far = Block(6);
    far[4] = 0xff;
    far[7] = high;
    EXPECT_EQ(ExifOrientation(far), 1);
  }
  Bytes many = Block(6);
  many[8] = many[9] = 0xff;  // 65,535 entries; the first one is there
  EXPECT_EQ(ExifOrientation(many), 6);
}

TEST(ExifTest, TakesTheLastOfTwo) {
  Bytes two = Block(6);
  two[8] = 2;
  const Bytes second = Block(3);
  two.resize(22);
  Append(two, absl::MakeConstSpan(second).subspan(10));
  EXPECT_EQ(ExifOrientation(two), 3);
}

}  // namespace
}  // namespace minicpmv
