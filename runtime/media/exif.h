#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace minicpmv {

// The orientation (1-8) that an EXIF block states: a TIFF header and its first directory, with or
// without "Exif\0\0" before them. 1, upright, when it states none or is malformed: whoever made the
// picture had no say in it. Where the tag stands twice the last one counts, as in Pillow.
int ExifOrientation(absl::Span<const uint8_t> block);

}  // namespace minicpmv
