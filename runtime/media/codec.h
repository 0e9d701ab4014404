#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/media/image.h"

namespace minicpmv {

// What a file's headers state, before any of it is believed.
struct ImageHeader {
  int width = 0;  // stored, before orientation; > 0
  int height = 0;
  int orientation = 1;  // 1-8
};

// One pair for each kind. Probe reads headers and allocates nothing by their numbers. Decode
// returns the stored pixels, not yet upright; `header` is what Probe said of the same bytes, and
// its size is one the caller agrees to allocate. Errors as in image.h.
absl::StatusOr<ImageHeader> ProbeJpeg(absl::Span<const uint8_t> bytes);
absl::StatusOr<Image> DecodeJpeg(absl::Span<const uint8_t> bytes, const ImageHeader& header);
absl::StatusOr<ImageHeader> ProbePng(absl::Span<const uint8_t> bytes);
absl::StatusOr<Image> DecodePng(absl::Span<const uint8_t> bytes, const ImageHeader& header);
absl::StatusOr<ImageHeader> ProbeWebp(absl::Span<const uint8_t> bytes);
absl::StatusOr<Image> DecodeWebp(absl::Span<const uint8_t> bytes, const ImageHeader& header);

}  // namespace minicpmv
