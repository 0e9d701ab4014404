#include "runtime/media/image.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "tests/runtime/media/media_files.h"

namespace minicpmv {
namespace {

void ExpectImage(const absl::StatusOr<Image>& image, const nlohmann::json& expected,
                 const std::string& file) {
  ASSERT_TRUE(image.ok()) << file << ": " << image.status();
  ASSERT_EQ(image->width, expected["width"].get<int>()) << file;
  ASSERT_EQ(image->height, expected["height"].get<int>()) << file;
  std::string rgb;
  ASSERT_TRUE(absl::Base64Unescape(expected["rgb"].get<std::string>(), &rgb));
  ASSERT_EQ(image->rgb.size(), rgb.size()) << file;
  for (size_t i = 0; i < rgb.size(); ++i) {
    ASSERT_EQ(image->rgb[i], static_cast<uint8_t>(rgb[i]))
        << file << ": channel " << i % 3 << " of pixel (" << i / 3 % image->width << ", "
        << i / 3 / image->width << ")";
  }
}

// All files whose names end so; `at_least` of them.
void ExpectFilesAsPillow(absl::string_view end, size_t at_least) {
  size_t files = 0;
  const nlohmann::json all = TestJson("images/expected.json");
  for (const nlohmann::json& expected : all["files"]) {
    const std::string file = expected["file"];
    if (!absl::EndsWith(file, end)) continue;
    ++files;
    const Bytes bytes = TestFile("images/" + file);
    ExpectImage(DecodeImage(bytes, Exif::kIgnore), expected, file);
    const absl::StatusOr<ImageInfo> info = ProbeImage(bytes, Exif::kIgnore);
    ASSERT_TRUE(info.ok()) << file << ": " << info.status();
    EXPECT_EQ(info->width, expected["width"].get<int>()) << file;
    EXPECT_EQ(info->height, expected["height"].get<int>()) << file;
  }
  EXPECT_GE(files, at_least);
}

TEST(ImageTest, DecodesEveryPngAsPillowDoes) { ExpectFilesAsPillow(".png", 32); }
TEST(ImageTest, DecodesEveryJpegAsPillowDoes) { ExpectFilesAsPillow(".jpg", 32); }
TEST(ImageTest, DecodesEveryWebpAsPillowDoes) { ExpectFilesAsPillow(".webp", 10); }

TEST(ImageTest, TurnsPicturesUprightUnlessTold) {
  int files = 0;
  const nlohmann::json all = TestJson("images/expected.json");
  for (const nlohmann::json& expected : all["files"]) {
    if (!expected.contains("upright")) continue;
    ++files;
    const std::string file = expected["file"];
    const Bytes bytes = TestFile("images/" + file);
    ExpectImage(DecodeImage(bytes, Exif::kApply), expected["upright"], file);
    const absl::StatusOr<ImageInfo> info = ProbeImage(bytes, Exif::kApply);
    ASSERT_TRUE(info.ok()) << file << ": " << info.status();
    EXPECT_EQ(info->width, expected["upright"]["width"].get<int>()) << file;
    EXPECT_EQ(info->height, expected["upright"]["height"].get<int>()) << file;
  }
  EXPECT_EQ(files, 12);
}

TEST(ImageTest, NamesTheFormat) {
  EXPECT_EQ(ProbeImage(TestFile("images/1x1.png"), Exif::kApply)->format, "PNG");
  EXPECT_EQ(ProbeImage(TestFile("images/1x1.jpg"), Exif::kApply)->format, "JPEG");
  EXPECT_EQ(ProbeImage(TestFile("images/1x1.webp"), Exif::kApply)->format, "WebP");
}

TEST(ImageTest, DecodesTheNarrowest) {
  for (const bool is_tall : {true, false}) {
    const absl::StatusOr<Image> image =
        DecodeImage(TestFile(is_tall ? "images/1x30000.png" : "images/30000x1.png"), Exif::kApply);
    ASSERT_TRUE(image.ok()) << image.status();
    ASSERT_EQ(image->width, is_tall ? 1 : 30000);
    ASSERT_EQ(image->height, is_tall ? 30000 : 1);
    for (int i = 0; i < 30000; ++i) {
      ASSERT_EQ(image->rgb[3 * i], i / 120);
      ASSERT_EQ(image->rgb[3 * i + 1], 7);
      ASSERT_EQ(image->rgb[3 * i + 2], 255 - i / 120);
    }
  }
}

}  // namespace
}  // namespace minicpmv
