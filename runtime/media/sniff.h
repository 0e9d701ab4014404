#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace minicpmv {

enum class ImageKind { kJpeg, kPng, kWebp };

// Tells by the first bytes what a file is. Whatever is not read is named in the error:
// UNIMPLEMENTED for other kinds of picture, INVALID_ARGUMENT for what is no picture at all.
absl::StatusOr<ImageKind> SniffImage(absl::Span<const uint8_t> bytes);

}  // namespace minicpmv
