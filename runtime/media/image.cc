#include "runtime/media/image.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/media/codec.h"
#include "runtime/media/orientation.h"
#include "runtime/media/sniff.h"

namespace minicpmv {
namespace {

struct Codec {
  absl::string_view format;
  absl::StatusOr<ImageHeader> (*probe)(absl::Span<const uint8_t> bytes);
  absl::StatusOr<Image> (*decode)(absl::Span<const uint8_t> bytes, const ImageHeader& header);
};

// In the order of ImageKind.
constexpr Codec kCodecs[] = {
    {"JPEG", ProbeJpeg, DecodeJpeg},
    {"PNG", ProbePng, DecodePng},
    {"WebP", ProbeWebp, DecodeWebp},
};

struct Checked {
  Codec codec;
  ImageHeader header;
};

// All that can be refused before a pixel is looked at.
absl::StatusOr<Checked> CheckHeader(absl::Span<const uint8_t> bytes, const ImageLimits& limits) {
  if (bytes.size() > limits.bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the image has ", bytes.size(), " bytes; the limit is ", limits.bytes));
  }
  ASSIGN_OR_RETURN(const ImageKind kind, SniffImage(bytes));
  const Codec& codec = kCodecs[static_cast<int>(kind)];
  ASSIGN_OR_RETURN(const ImageHeader header, codec.probe(bytes));
  CHECK(header.width > 0 && header.height > 0) << header.width << " x " << header.height;
  if (header.height > limits.pixels / header.width) {
    return absl::InvalidArgumentError(absl::StrCat("the image is ", header.width, " x ",
                                                   header.height, "; the limit is ", limits.pixels,
                                                   " pixels"));
  }
  return Checked{codec, header};
}

}  // namespace

absl::StatusOr<ImageInfo> ProbeImage(absl::Span<const uint8_t> bytes, Exif exif,
                                     const ImageLimits& limits) {
  ASSIGN_OR_RETURN(const Checked checked, CheckHeader(bytes, limits));
  const ImageHeader& header = checked.header;
  ImageInfo info{checked.codec.format, header.width, header.height};
  if (exif == Exif::kApply && SwapsSides(header.orientation)) std::swap(info.width, info.height);
  return info;
}

absl::StatusOr<Image> DecodeImage(absl::Span<const uint8_t> bytes, Exif exif,
                                  const ImageLimits& limits) {
  ASSIGN_OR_RETURN(const Checked checked, CheckHeader(bytes, limits));
  ASSIGN_OR_RETURN(Image image, checked.codec.decode(bytes, checked.header));
  if (exif == Exif::kIgnore) return image;
  return Upright(std::move(image), checked.header.orientation);
}

}  // namespace minicpmv
