#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace minicpmv {

// A picture as the models see it: what Pillow's convert("RGB") makes of a file. Grey is replicated,
// palettes are expanded, alpha is dropped without compositing, CMYK goes through Pillow's own
// formula.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;  // [height, width, 3]
};

// What to do with the orientation (1-8) that a file's EXIF block states. The originals ignore it,
// so a phone's portrait reaches them lying on its side; turning it upright first is this project's
// one deviation. A malformed block counts as none.
enum class Exif { kApply, kIgnore };

// Both are checked before anything is allocated by a size that the file states.
struct ImageLimits {
  size_t bytes = 20 << 20;            // of the file
  int64_t pixels = int64_t{1} << 25;  // width x height
};

struct ImageInfo {
  absl::string_view format;  // "JPEG", "PNG" or "WebP"; lives for ever
  int width = 0;             // after orientation
  int height = 0;
};

// The kind is told by the first bytes alone, whatever a caller believes about it.
//
// Errors of both functions; their words are ours, never a library's:
//   INVALID_ARGUMENT    no bytes, not a picture (text, HTML, PDF, unknown), or over a limit
//   UNIMPLEMENTED       a kind that is not read: GIF, BMP, TIFF, HEIC, SVG, ..., 12-bit JPEG
//   DATA_LOSS           damaged, or cut short anywhere: no half-grey pictures
//   RESOURCE_EXHAUSTED  memory ran out
// Thread-safe: no state is shared between calls.

// Reads headers only: no pixel is decoded, nothing is allocated by the stated size. A file that
// passes may still turn out to be damaged when it is decoded; one that decodes always passes here,
// with the same size.
absl::StatusOr<ImageInfo> ProbeImage(absl::Span<const uint8_t> bytes, Exif exif,
                                     const ImageLimits& limits = {});

// The whole picture, upright. Of animations (WebP, APNG) the first one, as Pillow opens them.
absl::StatusOr<Image> DecodeImage(absl::Span<const uint8_t> bytes, Exif exif,
                                  const ImageLimits& limits = {});

}  // namespace minicpmv
