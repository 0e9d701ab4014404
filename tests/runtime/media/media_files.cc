#include "tests/runtime/media/media_files.h"

#include <fstream>
#include <iterator>

#include <zlib.h>

#include "gtest/gtest.h"

namespace minicpmv {
namespace {

void AppendBigEndian(Bytes& bytes, uint32_t number) {
  for (int shift = 24; shift >= 0; shift -= 8)
    bytes.push_back(static_cast<uint8_t>(number >> shift));
}

}  // namespace

Bytes TestFile(const std::string& path) {
  std::ifstream file(std::string(MINICPMV_SOURCE_DIR "/tests/testdata/") + path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

nlohmann::json TestJson(const std::string& path) {
  const Bytes bytes = TestFile(path);
  return nlohmann::json::parse(bytes.begin(), bytes.end());
}

Bytes BytesOf(absl::string_view text) { return Bytes(text.begin(), text.end()); }

Image SyntheticImage(int width, int height) {
  Image image{width, height, {}};
  image.rgb.reserve(size_t{3} * width * height);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      image.rgb.push_back(static_cast<uint8_t>(7 * x + 13 * y));
      image.rgb.push_back(static_cast<uint8_t>(x * x + 3 * y));
      image.rgb.push_back(static_cast<uint8_t>(x * y + 5 * x));
    }
  }
  return image;
}

void Append(Bytes& bytes, absl::Span<const uint8_t> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

Bytes PngChunk(absl::string_view name, absl::Span<const uint8_t> data) {
  Bytes chunk;
  AppendBigEndian(chunk, static_cast<uint32_t>(data.size()));
  Append(chunk, BytesOf(name));
  Append(chunk, data);
  AppendBigEndian(chunk, static_cast<uint32_t>(
                             crc32(0, chunk.data() + 4, static_cast<uInt>(chunk.size() - 4))));
  return chunk;
}

Bytes PngThatClaims(uint32_t width, uint32_t height) {
  Bytes header;
  AppendBigEndian(header, width);
  AppendBigEndian(header, height);
  Append(header, {8, 2, 0, 0, 0});
  Bytes png = BytesOf("\x89PNG\r\n\x1a\n");
  Append(png, PngChunk("IHDR", header));
  Append(png, PngChunk("IDAT", {0x78, 0x9c, 0x63, 0x60, 0x60, 0x60, 0, 0, 0, 4, 0, 1}));
  Append(png, PngChunk("IEND", {}));
  return png;
}

}  // namespace minicpmv
