#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>

#include "absl/base/config.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "runtime/media/image.h"
#include "tests/runtime/media/media_files.h"

namespace minicpmv {
namespace {

using absl::StatusCode;

absl::Status StatusOf(const Bytes& bytes, const ImageLimits& limits = {}) {
  return DecodeImage(bytes, Exif::kApply, limits).status();
}

void ExpectBothRefuse(const Bytes& bytes, StatusCode code, absl::string_view words,
                      const ImageLimits& limits = {}) {
  for (const absl::Status& status :
       {StatusOf(bytes, limits), ProbeImage(bytes, Exif::kApply, limits).status()}) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), words)) << status;
  }
}

// The place of the first `marker` byte behind a 0xff.
size_t FindMarker(const Bytes& jpeg, uint8_t marker, size_t from = 0) {
  const uint8_t wanted[] = {0xff, marker};
  const auto found = std::search(jpeg.begin() + from, jpeg.end(), wanted, wanted + 2);
  EXPECT_NE(found, jpeg.end());
  return found - jpeg.begin();
}

TEST(BadImageTest, RefusesNoBytes) { ExpectBothRefuse({}, StatusCode::kInvalidArgument, "empty"); }

TEST(BadImageTest, NamesWhatItFound) {
  const struct {
    absl::string_view head;
    StatusCode code;
    absl::string_view words;
  } cases[] = {
      {"GIF89a\1\0\1\0", StatusCode::kUnimplemented,
       "GIF images are not read; send JPEG, PNG or WebP"},
      {"GIF87a", StatusCode::kUnimplemented, "GIF"},
      {"BM\x46\0\0\0", StatusCode::kUnimplemented, "BMP"},
      {absl::string_view("II*\0\x08\0\0\0", 8), StatusCode::kUnimplemented, "TIFF"},
      {absl::string_view("MM\0*\0\0\0\x08", 8), StatusCode::kUnimplemented, "TIFF"},
      {absl::string_view("\0\0\0\x18"
                         "ftypheic\0\0\0\0",
                         16),
       StatusCode::kUnimplemented, "HEIC"},
      {absl::string_view("\0\0\0\x18"
                         "ftypmif1\0\0\0\0",
                         16),
       StatusCode::kUnimplemented, "HEIC"},
      {absl::string_view("\0\0\0\x1c"
                         "ftypavif\0\0\0\0",
                         16),
       StatusCode::kUnimplemented, "AVIF"},
      {absl::string_view("\0\0\0\x18"
                         "ftypmp42\0\0\0\0",
                         16),
       StatusCode::kInvalidArgument, "a video file"},
      {"<svg xmlns='http://www.w3.org/2000/svg'/>", StatusCode::kUnimplemented, "SVG"},
      {"<?xml version='1.0'?>\n<!-- drawn by hand -->\n<svg/>", StatusCode::kUnimplemented, "SVG"},
      {"%PDF-1.7\n%\xe2\xe3", StatusCode::kInvalidArgument, "a PDF document"},
      {"  <!DOCTYPE html><html></html>", StatusCode::kInvalidArgument, "HTML"},
      {"Not a picture.\n", StatusCode::kInvalidArgument, "text"},
      {"\xef\xbb\xbfkein Bild, sondern sch\xc3\xb6ner Text", StatusCode::kInvalidArgument, "text"},
      {"{\"error\": \"not found\"}", StatusCode::kInvalidArgument, "text"},
      {"PK\3\4", StatusCode::kInvalidArgument, "a ZIP archive"},
      {absl::string_view("\x01\x02\x03\x00", 4), StatusCode::kInvalidArgument,
       "no image of a known kind"},
      {absl::string_view("RIFF\0\0\0\0WAVE", 12), StatusCode::kInvalidArgument, "a sound file"},
      {"\xff\xd8", StatusCode::kInvalidArgument, "no image of a known kind"},
      {"\x89PNG", StatusCode::kInvalidArgument, "no image of a known kind"},
  };
  for (const auto& one : cases) ExpectBothRefuse(BytesOf(one.head), one.code, one.words);
}

TEST(BadImageTest, RefusesEveryFileCutAtEveryByte) {
  const nlohmann::json all = TestJson("images/expected.json");
  for (const nlohmann::json& expected : all["files"]) {
    const std::string file = expected["file"];
    // Bytes behind a JPEG's end are nobody's loss.
    if (file == "bytes-after-the-end.jpg") continue;
    const Bytes bytes = TestFile("images/" + file);
    for (size_t size = 0; size < bytes.size(); ++size) {
      const Bytes cut(bytes.begin(), bytes.begin() + size);
      const absl::Status status = StatusOf(cut);
      ASSERT_FALSE(status.ok()) << file << " cut to " << size;
      // The first bytes name the kind; before they are all there, nobody can tell what is missing.
      if (size < 12) continue;
      ASSERT_EQ(status.code(), StatusCode::kDataLoss)
          << file << " cut to " << size << ": " << status;
    }
  }
}

TEST(BadImageTest, SurvivesEveryBitOfAHeaderFlipped) {
  for (const char* file :
       {"images/orientation6.jpg", "images/ycbcr420-progressive.jpg", "images/cmyk-adobe.jpg",
        "images/arithmetic.jpg", "images/palette4-interlaced.png", "images/orientation6.png",
        "images/lossy-alpha.webp", "images/animated-corner.webp", "images/orientation7.webp"}) {
    const Bytes bytes = TestFile(file);
    for (size_t bit = 0; bit < 8 * bytes.size(); bit += bit < 8 * 200 ? 1 : 13) {
      Bytes flipped = bytes;
      flipped[bit / 8] ^= 1 << bit % 8;
      const absl::StatusOr<Image> image = DecodeImage(flipped, Exif::kApply, {.pixels = 1 << 20});
      const absl::StatusOr<ImageInfo> info = ProbeImage(flipped, Exif::kApply, {.pixels = 1 << 20});
      if (!image.ok()) continue;
      ASSERT_TRUE(info.ok()) << file << " bit " << bit << ": " << info.status();
      EXPECT_EQ(info->width, image->width) << file << " bit " << bit;
      EXPECT_EQ(info->height, image->height) << file << " bit " << bit;
    }
  }
}

TEST(BadImageTest, RefusesAWrongChecksumInAnyPngChunk) {
  const Bytes png = TestFile("images/text-and-profile.png");
  for (const absl::string_view name : {"IHDR", "gAMA", "tEXt", "IDAT", "zTXt", "IEND"}) {
    Bytes bad = png;
    const auto at = std::search(bad.begin(), bad.end(), name.begin(), name.end());
    ASSERT_NE(at, bad.end()) << name;
    const size_t length = at[-4] << 24 | at[-3] << 16 | at[-2] << 8 | at[-1];
    at[4 + length] ^= 1;
    EXPECT_EQ(StatusOf(bad).code(), StatusCode::kDataLoss) << name;
  }
}

TEST(BadImageTest, HoldsToTheLimitsOfItsCaller) {
  const Bytes png = TestFile("images/rgb8.png");
  ExpectBothRefuse(png, StatusCode::kInvalidArgument, "bytes; the limit is",
                   {.bytes = png.size() - 1});
  EXPECT_TRUE(StatusOf(png, {.bytes = png.size()}).ok());
  for (const char* file :
       {"images/rgb8.png", "images/ycbcr420.jpg", "images/lossy.webp", "images/animated.webp"}) {
    ExpectBothRefuse(TestFile(file), StatusCode::kInvalidArgument,
                     "23 x 17; the limit is 390 pixels", {.pixels = 390});
    EXPECT_TRUE(StatusOf(TestFile(file), {.pixels = 391}).ok());
  }
}

// Counts address space, not time, so the verdict does not depend on how busy the machine is.
// Sanitizers reserve address space of their own, so there only the status is looked at.
void WithMemory([[maybe_unused]] rlim_t more, const std::function<void()>& act) {
#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
  act();
#else
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  long pages = 0;
  std::FILE* statm = std::fopen("/proc/self/statm", "r");
  ASSERT_NE(statm, nullptr);
  ASSERT_EQ(std::fscanf(statm, "%ld", &pages), 1);
  std::fclose(statm);
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(pages) * sysconf(_SC_PAGESIZE) + more;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &tight), 0);
  act();
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
#endif
}

TEST(BadImageTest, RefusesAPngThatClaimsTwoToTheThirtyFirstPixelsWithoutPayingForThem) {
  WithMemory(10 << 20, [] {
    ExpectBothRefuse(PngThatClaims(65536, 32768), StatusCode::kInvalidArgument,
                     "65536 x 32768; the limit is 33554432");
    ExpectBothRefuse(PngThatClaims(2147483647, 2147483647), StatusCode::kInvalidArgument,
                     "the limit is");
    ExpectBothRefuse(PngThatClaims(2147483647, 1), StatusCode::kInvalidArgument, "the limit is");
    ExpectBothRefuse(PngThatClaims(1, 2147483647), StatusCode::kInvalidArgument, "the limit is");
    ExpectBothRefuse(PngThatClaims(2147483648, 1), StatusCode::kInvalidArgument, "header states");
    ExpectBothRefuse(PngThatClaims(4294967295, 4294967295), StatusCode::kInvalidArgument,
                     "header states");
    ExpectBothRefuse(PngThatClaims(0, 5), StatusCode::kInvalidArgument, "header states");
    // As large as allowed, but its few bytes cannot hold that many pixels.
    EXPECT_EQ(StatusOf(PngThatClaims(8192, 4096)).code(), StatusCode::kDataLoss);
    EXPECT_EQ(StatusOf(PngThatClaims(1 << 25, 1)).code(), StatusCode::kDataLoss);
    EXPECT_EQ(StatusOf(PngThatClaims(1, 1 << 25)).code(), StatusCode::kDataLoss);
  });
}

TEST(BadImageTest, StepsOverAHugeAncillaryChunk) {
  Bytes png = TestFile("images/rgb8.png");
  const Bytes iend(png.end() - 12, png.end());
  png.resize(png.size() - 12);
  Append(png, PngChunk("tEXt", Bytes(15 << 20, 'a')));
  Append(png, PngChunk("prIv", Bytes(1 << 20, 0)));
  Append(png, iend);
  EXPECT_TRUE(StatusOf(png).ok()) << StatusOf(png);
}

TEST(BadImageTest, RefusesAPngWhoseChunkLengthLies) {
  Bytes png = TestFile("images/rgb8.png");
  const absl::string_view name = "IDAT";
  const auto at = std::search(png.begin(), png.end(), name.begin(), name.end());
  at[-4] = 0x7f;
  EXPECT_EQ(StatusOf(png).code(), StatusCode::kDataLoss);
  at[-4] = 0xff;
  EXPECT_EQ(StatusOf(png).code(), StatusCode::kDataLoss);
}

// A progressive JPEG whose first scan comes again and again.
Bytes WithScans(int scans) {
  const Bytes jpeg = TestFile("images/ycbcr420-progressive.jpg");
  const size_t first = FindMarker(jpeg, 0xda);
  const size_t behind = FindMarker(jpeg, 0xc4, first);  // the table that the second scan needs
  const absl::Span<const uint8_t> bytes(jpeg);
  Bytes repeated(jpeg.begin(), jpeg.begin() + behind);
  for (int i = 0; i < scans; ++i) Append(repeated, bytes.subspan(first, behind - first));
  Append(repeated, bytes.subspan(behind));
  return repeated;
}

TEST(BadImageTest, BoundsTheScansOfAJpeg) {
  EXPECT_TRUE(StatusOf(WithScans(100)).ok()) << StatusOf(WithScans(100));
  const absl::Status status = StatusOf(WithScans(5000));
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "scans")) << status;
}

TEST(BadImageTest, RefusesJpegsThatPillowRefuses) {
  const Bytes baseline = TestFile("images/ycbcr444.jpg");
  const size_t frame = FindMarker(baseline, 0xc0);

  Bytes twelve_bits = baseline;
  twelve_bits[frame + 4] = 12;
  ExpectBothRefuse(twelve_bits, StatusCode::kUnimplemented, "8 bits");

  Bytes lossless = baseline;
  lossless[frame + 1] = 0xc3;
  ExpectBothRefuse(lossless, StatusCode::kUnimplemented, "lossless");

  Bytes no_height = baseline;
  no_height[frame + 5] = no_height[frame + 6] = 0;
  ExpectBothRefuse(no_height, StatusCode::kInvalidArgument, "width or height of 0");

  Bytes too_wide = baseline;
  too_wide[frame + 7] = too_wide[frame + 8] = 0xff;
  ExpectBothRefuse(too_wide, StatusCode::kInvalidArgument, "65500");
}

TEST(BadImageTest, RefusesAJpegWithAHoleInsteadOfGrey) {
  const Bytes jpeg = TestFile("images/ycbcr444.jpg");
  const size_t scan = FindMarker(jpeg, 0xda);
  Bytes cut(jpeg.begin(), jpeg.begin() + (scan + jpeg.size()) / 2);
  Append(cut, {0xff, 0xd9});  // the rest is missing, yet it ends as a JPEG should
  EXPECT_EQ(StatusOf(cut).code(), StatusCode::kDataLoss);
}

TEST(BadImageTest, ReadsAPolyglotAsWhatItsFirstBytesSay) {
  Bytes png = TestFile("images/rgb8.png");
  Append(png, BytesOf("<html><script>alert(1)</script></html>"));
  EXPECT_TRUE(StatusOf(png).ok());
  Bytes html = BytesOf("<html>");
  Append(html, TestFile("images/rgb8.png"));
  EXPECT_FALSE(StatusOf(html).ok());
}

TEST(BadImageTest, IgnoresMalformedExif) {
  Bytes jpeg = TestFile("images/orientation6.jpg");
  const Bytes tiff = {'I', 'I', 42, 0};
  auto at = std::search(jpeg.begin(), jpeg.end(), tiff.begin(), tiff.end());
  if (at == jpeg.end()) {
    const Bytes big_endian = {'M', 'M', 0, 42};
    at = std::search(jpeg.begin(), jpeg.end(), big_endian.begin(), big_endian.end());
  }
  ASSERT_NE(at, jpeg.end());
  std::fill_n(at + 4, 4, 0xff);  // the directory lies past the end
  const absl::StatusOr<Image> image = DecodeImage(jpeg, Exif::kApply);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->width, 23);
}

}  // namespace
}  // namespace minicpmv
