#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"
#include "runtime/media/image.h"

namespace minicpmv {

using Bytes = std::vector<uint8_t>;

// A file under tests/testdata; fails the test and returns nothing when it cannot be read.
Bytes TestFile(const std::string& path);
nlohmann::json TestJson(const std::string& path);

Bytes BytesOf(absl::string_view text);

// R = 7x + 13y, G = xx + 3y, B = xy + 5x, each modulo 256.
Image SyntheticImage(int width, int height);

// A PNG chunk with its checksum.
Bytes PngChunk(absl::string_view name, absl::Span<const uint8_t> data);
// Signature and header of a PNG of 8-bit colours, and a few bytes of pixels: far fewer than it
// states.
Bytes PngThatClaims(uint32_t width, uint32_t height);

void Append(Bytes& bytes, absl::Span<const uint8_t> more);

}  // namespace minicpmv
