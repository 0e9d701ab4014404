#include <csetjmp>
#include <cstddef>
#include <cstdio>

#include <jpeglib.h>

#include <jerror.h>  // After jpeglib.h, whose configuration decides which codes there are.

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/media/codec.h"
#include "runtime/media/exif.h"

namespace minicpmv {
namespace {

// A progressive file may repeat scans for as long as it likes, each costing a walk over the whole
// picture. Honest ones have about ten.
constexpr int kMaxScans = 500;
constexpr int64_t kMaxScannedPixels = int64_t{1} << 31;

// Codes of our own beside the library's, which are positive.
constexpr int kTooManyScans = -1;

// A libjpeg decoder whose calls come back as Status. libjpeg leaves by longjmp, so no function that
// a jump may cross holds an object with a destructor.
class JpegReader {
 public:
  JpegReader() {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = [](j_common_ptr info) { Self(info).Leave(info->err->msg_code); };
    errors_.emit_message = [](j_common_ptr info, int level) {
      // Warnings. The library would go on with grey where data is missing or lost; the harmless
      // ones (stray bytes between markers, unknown versions) pass.
      if (level >= 0) return;
      switch (const int code = info->err->msg_code) {
        case JWRN_HIT_MARKER:
        case JWRN_HUFF_BAD_CODE:
        case JWRN_ARITH_BAD_CODE:
        case JWRN_MUST_RESYNC:
        case JWRN_JPEG_EOF:
          Self(info).Leave(code);
      }
    };
    errors_.output_message = [](j_common_ptr) {};
    info_.client_data = this;
    progress_.progress_monitor = [](j_common_ptr info) { Self(info).CountScans(); };
  }
  ~JpegReader() { jpeg_destroy_decompress(&info_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  // Reads up to the first scan. `bytes` must outlive the reader.
  absl::StatusOr<ImageHeader> ReadHeader(absl::Span<const uint8_t> bytes) {
    if (!TryReadHeader(bytes)) return Failure();
    const int components = info_.num_components;
    if (components != 1 && components != 3 && components != 4) {
      return absl::UnimplementedError(
          absl::StrCat("JPEG images of ", components, " components are not read"));
    }
    return ImageHeader{static_cast<int>(info_.image_width), static_cast<int>(info_.image_height),
                       Orientation()};
  }

  // After ReadHeader. Colours: 1, 3 or 4 bytes a pixel, see components().
  absl::Status Start() { return TryStart() ? absl::OkStatus() : Failure(); }
  int components() const { return info_.output_components; }
  // One row of width * components() bytes.
  absl::Status ReadRow(uint8_t* row) { return TryReadRow(row) ? absl::OkStatus() : Failure(); }
  // Reads on to the end marker.
  absl::Status Finish() { return TryFinish() ? absl::OkStatus() : Failure(); }

 private:
  static JpegReader& Self(j_common_ptr info) {
    return *static_cast<JpegReader*>(info->client_data);
  }

  [[noreturn]] void Leave(int code) {
    failure_ = code;
    std::longjmp(jump_, 1);
  }

  void CountScans() {
    const int64_t scans = info_.input_scan_number;
    const int64_t pixels = int64_t{info_.image_width} * info_.image_height;
    if (scans > kMaxScans || scans * pixels > kMaxScannedPixels) Leave(kTooManyScans);
  }

  bool TryReadHeader(absl::Span<const uint8_t> bytes) {
    if (setjmp(jump_) != 0) return false;
    jpeg_create_decompress(&info_);
    info_.progress = &progress_;
    jpeg_save_markers(&info_, JPEG_APP0 + 1, 0xffff);
    jpeg_mem_src(&info_, bytes.data(), bytes.size());
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  bool TryStart() {
    if (setjmp(jump_) != 0) return false;
    switch (info_.num_components) {
      case 1:
        info_.out_color_space = JCS_GRAYSCALE;
        break;
      case 3:
        info_.out_color_space = JCS_RGB;
        break;
      default:
        info_.out_color_space = JCS_CMYK;
        break;
    }
    jpeg_start_decompress(&info_);
    return true;
  }

  bool TryReadRow(uint8_t* row) {
    if (setjmp(jump_) != 0) return false;
    return jpeg_read_scanlines(&info_, &row, 1) == 1;
  }

  bool TryFinish() {
    if (setjmp(jump_) != 0) return false;
    return jpeg_finish_decompress(&info_);
  }

  int Orientation() const {
    constexpr absl::string_view kExif("Exif\0\0", 6);
    for (const jpeg_marker_struct* marker = info_.marker_list; marker != nullptr;
         marker = marker->next) {
      const absl::string_view data(reinterpret_cast<const char*>(marker->data),
                                   marker->data_length);
      if (data.substr(0, kExif.size()) == kExif)
        return ExifOrientation({marker->data, marker->data_length});
    }
    return 1;
  }

  absl::Status Failure() const {
    switch (failure_) {
      case JERR_OUT_OF_MEMORY:
        return absl::ResourceExhaustedError("no memory to decode the JPEG");
      case JERR_BAD_PRECISION:
        return absl::UnimplementedError("JPEG images of other than 8 bits a sample are not read");
      case JERR_SOF_UNSUPPORTED:
        return absl::UnimplementedError("lossless and hierarchical JPEG images are not read");
      case JERR_ARITH_NOTIMPL:
        return absl::UnimplementedError("arithmetic-coded JPEG images are not read");
      case JERR_CCIR601_NOTIMPL:
      case JERR_CONVERSION_NOTIMPL:
      case JERR_FRACT_SAMPLE_NOTIMPL:
      case JERR_NOTIMPL:
      case JERR_NOT_COMPILED:
        return absl::UnimplementedError(
            "JPEG images of this sampling or colour space are not read");
      case JERR_EMPTY_IMAGE:
      case JERR_IMAGE_TOO_BIG:
      case JERR_WIDTH_OVERFLOW:
        return absl::InvalidArgumentError(
            "the JPEG's header states a width or height of 0 or over 65500");
      case JWRN_JPEG_EOF:
      case JERR_INPUT_EOF:
      case JERR_INPUT_EMPTY:
        return absl::DataLossError("the JPEG is cut short");
      case kTooManyScans:
        return absl::InvalidArgumentError("the JPEG has far more scans than any picture needs");
      default:
        return absl::DataLossError("the JPEG is damaged");
    }
  }

  jpeg_decompress_struct info_ = {};
  jpeg_error_mgr errors_ = {};
  jpeg_progress_mgr progress_ = {};
  std::jmp_buf jump_;
  int failure_ = 0;
};

// (a * b / 255) as Pillow rounds it.
int MultiplyBytes(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// Adobe writes CMYK inverted, and Pillow takes every CMYK JPEG to be so written.
void InvertedCmykToRgb(const uint8_t* cmyk, int width, uint8_t* rgb) {
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    const int white = cmyk[3];
    for (int c = 0; c < 3; ++c)
      rgb[c] = static_cast<uint8_t>(white - MultiplyBytes(255 - cmyk[c], white));
  }
}

void GreyToRgb(const uint8_t* grey, int width, uint8_t* rgb) {
  for (int x = 0; x < width; ++x, rgb += 3) rgb[0] = rgb[1] = rgb[2] = grey[x];
}

}  // namespace

absl::StatusOr<ImageHeader> ProbeJpeg(absl::Span<const uint8_t> bytes) {
  return JpegReader().ReadHeader(bytes);
}

absl::StatusOr<Image> DecodeJpeg(absl::Span<const uint8_t> bytes, const ImageHeader& header) {
  JpegReader reader;
  ASSIGN_OR_RETURN(const ImageHeader stated, reader.ReadHeader(bytes));
  CHECK(stated.width == header.width && stated.height == header.height);
  RETURN_IF_ERROR(reader.Start());

  const size_t row_bytes = size_t{3} * header.width;
  Image image{header.width, header.height, std::vector<uint8_t>(row_bytes * header.height)};
  std::vector<uint8_t> other(reader.components() == 3 ? 0 : size_t{4} * header.width);
  for (int y = 0; y < header.height; ++y) {
    uint8_t* row = image.rgb.data() + y * row_bytes;
    RETURN_IF_ERROR(reader.ReadRow(reader.components() == 3 ? row : other.data()));
    if (reader.components() == 1) GreyToRgb(other.data(), header.width, row);
    if (reader.components() == 4) InvertedCmykToRgb(other.data(), header.width, row);
  }
  RETURN_IF_ERROR(reader.Finish());
  return image;
}

}  // namespace minicpmv
