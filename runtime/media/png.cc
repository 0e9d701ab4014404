#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <png.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/media/codec.h"
#include "runtime/media/exif.h"

namespace minicpmv {
namespace {

constexpr size_t kSignatureBytes = 8;
constexpr size_t kChunkFrame = 12;  // length and name before the data, checksum behind it

uint32_t BigEndian32(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3];
}

// The orientation that the first eXIf chunk states, wherever it stands. Reads chunk lengths only.
int Orientation(absl::Span<const uint8_t> bytes) {
  bytes.remove_prefix(kSignatureBytes);
  while (bytes.size() >= kChunkFrame) {
    const size_t length = BigEndian32(bytes.data());
    if (length > bytes.size() - kChunkFrame) break;
    if (std::memcmp(bytes.data() + 4, "eXIf", 4) == 0)
      return ExifOrientation(bytes.subspan(8, length));
    bytes.remove_prefix(kChunkFrame + length);
  }
  return 1;
}

// A libpng decoder whose calls come back as Status. libpng leaves by longjmp, so no function that a
// jump may cross holds an object with a destructor.
class PngReader {
 public:
  explicit PngReader(absl::Span<const uint8_t> bytes) : rest_(bytes) {}
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  // Reads up to the pixels and settles how rows will look: samples of 8 bits without alpha, only
  // grey may keep 16. Palette indices stay indices.
  absl::Status Open() {
    const size_t bytes = rest_.size();
    if (!TryReadHeader()) return Failure();
    // Deflate shrinks by 1032 at most: nothing is allocated, here or by the library, for a file
    // that cannot hold what it states.
    constexpr size_t kLargestRatio = 1032;
    if (png_get_rowbytes(png_, info_) * height() / kLargestRatio > bytes) {
      return absl::DataLossError("the PNG is cut short");
    }
    return TryChooseRows() ? absl::OkStatus() : Failure();
  }

  int width() const { return static_cast<int>(png_get_image_width(png_, info_)); }
  int height() const { return static_cast<int>(png_get_image_height(png_, info_)); }
  size_t row_bytes() const { return png_get_rowbytes(png_, info_); }
  bool is_palette() const { return png_get_color_type(png_, info_) == PNG_COLOR_TYPE_PALETTE; }
  bool is_rgb() const { return png_get_channels(png_, info_) == 3; }
  bool is_grey16() const { return png_get_bit_depth(png_, info_) == 16; }
  absl::Span<const png_color> palette() const {
    png_colorp colours = nullptr;
    int count = 0;
    png_get_PLTE(png_, info_, &colours, &count);
    return {colours, static_cast<size_t>(count)};
  }

  // Reads the whole picture, [height, row_bytes()], and the chunks behind it to the end.
  absl::Status ReadRows(uint8_t* rows) { return TryReadRows(rows) ? absl::OkStatus() : Failure(); }

 private:
  static PngReader& Self(png_voidp self) { return *static_cast<PngReader*>(self); }
  static void Error(png_structp png, png_const_charp) {
    std::longjmp(Self(png_get_error_ptr(png)).jump_, 1);
  }
  static void Warning(png_structp, png_const_charp) {}
  static png_voidp Allocate(png_structp png, png_alloc_size_t size) {
    const png_voidp memory = std::malloc(size);
    if (memory == nullptr) Self(png_get_mem_ptr(png)).is_out_of_memory_ = true;
    return memory;
  }
  static void Read(png_structp png, png_bytep out, size_t size) {
    PngReader& self = Self(png_get_io_ptr(png));
    if (size > self.rest_.size()) {
      self.is_short_ = true;
      png_error(png, "");
    }
    std::memcpy(out, self.rest_.data(), size);
    self.rest_.remove_prefix(size);
  }

  bool TryReadHeader() {
    if (setjmp(jump_) != 0) return false;
    png_ = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, this, Error, Warning, this, Allocate,
                                    nullptr);
    if (png_ == nullptr) return false;
    info_ = png_create_info_struct(png_);
    if (info_ == nullptr) return false;
    png_set_read_fn(png_, this, Read);
    // Our own limits have been checked already.
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    // Texts, profiles and the like are stepped over, not unpacked; but a wrong checksum anywhere is
    // damage.
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_read_info(png_, info_);
    return true;
  }

  bool TryChooseRows() {
    if (setjmp(jump_) != 0) return false;
    const int colour = png_get_color_type(png_, info_);
    const int depth = png_get_bit_depth(png_, info_);
    if (colour == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png_);
    if (colour == PNG_COLOR_TYPE_PALETTE) png_set_packing(png_);
    // Pillow takes the high byte of colours, but reads grey of 16 bits as numbers and clips those.
    if (colour != PNG_COLOR_TYPE_GRAY && depth == 16) png_set_strip_16(png_);
    if (colour & PNG_COLOR_MASK_ALPHA) png_set_strip_alpha(png_);
    passes_ = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }

  bool TryReadRows(uint8_t* rows) {
    if (setjmp(jump_) != 0) return false;
    const size_t stride = row_bytes();
    for (int pass = 0; pass < passes_; ++pass) {
      for (int y = 0; y < height(); ++y) png_read_row(png_, rows + y * stride, nullptr);
    }
    png_read_end(png_, nullptr);
    return true;
  }

  absl::Status Failure() const {
    if (is_out_of_memory_) return absl::ResourceExhaustedError("no memory to decode the PNG");
    return absl::DataLossError(is_short_ ? "the PNG is cut short" : "the PNG is damaged");
  }

  absl::Span<const uint8_t> rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf jump_;
  int passes_ = 1;
  bool is_short_ = false;
  bool is_out_of_memory_ = false;
};

}  // namespace

absl::StatusOr<ImageHeader> ProbePng(absl::Span<const uint8_t> bytes) {
  constexpr size_t kHeaderBytes = 13;
  if (bytes.size() < kSignatureBytes + kChunkFrame + kHeaderBytes)
    return absl::DataLossError("the PNG is cut short");
  const uint8_t* chunk = bytes.data() + kSignatureBytes;
  if (BigEndian32(chunk) != kHeaderBytes || std::memcmp(chunk + 4, "IHDR", 4) != 0) {
    return absl::DataLossError("the PNG does not begin with its header");
  }
  const uint32_t width = BigEndian32(chunk + 8);
  const uint32_t height = BigEndian32(chunk + 12);
  constexpr uint32_t kLargest = 0x7fffffff;  // the format's own bound
  if (width < 1 || height < 1 || width > kLargest || height > kLargest) {
    return absl::InvalidArgumentError(
        absl::StrCat("the PNG's header states ", width, " x ", height, " pixels"));
  }
  return ImageHeader{static_cast<int>(width), static_cast<int>(height), Orientation(bytes)};
}

absl::StatusOr<Image> DecodePng(absl::Span<const uint8_t> bytes, const ImageHeader& header) {
  PngReader reader(bytes);
  RETURN_IF_ERROR(reader.Open());
  CHECK(reader.width() == header.width && reader.height() == header.height);

  const size_t pixels = size_t(header.width) * header.height;
  Image image{header.width, header.height, std::vector<uint8_t>(3 * pixels)};
  if (reader.is_rgb()) {
    RETURN_IF_ERROR(reader.ReadRows(image.rgb.data()));
    return image;
  }
  std::vector<uint8_t> samples(reader.row_bytes() * header.height);
  RETURN_IF_ERROR(reader.ReadRows(samples.data()));
  uint8_t* rgb = image.rgb.data();
  if (reader.is_palette()) {
    // Indices past the palette's end are black, as in Pillow since 10.1.
    png_color colours[256] = {};
    const absl::Span<const png_color> palette = reader.palette();
    std::copy_n(palette.begin(), std::min<size_t>(palette.size(), 256), colours);
    for (size_t i = 0; i < pixels; ++i, rgb += 3) {
      const png_color& colour = colours[samples[i]];
      rgb[0] = colour.red;
      rgb[1] = colour.green;
      rgb[2] = colour.blue;
    }
  } else if (reader.is_grey16()) {
    for (size_t i = 0; i < pixels; ++i, rgb += 3) {
      rgb[0] = rgb[1] = rgb[2] = samples[2 * i] != 0 ? 255 : samples[2 * i + 1];
    }
  } else {
    for (size_t i = 0; i < pixels; ++i, rgb += 3) rgb[0] = rgb[1] = rgb[2] = samples[i];
  }
  return image;
}

}  // namespace minicpmv
