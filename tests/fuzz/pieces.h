#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace minicpmv {

// What a fuzz target is given, cut into pieces: before each stand two bytes, its length.
inline std::vector<absl::string_view> PiecesOf(const uint8_t* data, size_t size) {
  absl::string_view left(reinterpret_cast<const char*>(data), size);
  std::vector<absl::string_view> pieces;
  while (left.size() >= 2) {
    const size_t length = static_cast<uint8_t>(left[0]) | static_cast<uint8_t>(left[1]) << 8;
    left.remove_prefix(2);
    pieces.push_back(left.substr(0, std::min(length, left.size())));
    left.remove_prefix(pieces.back().size());
  }
  return pieces;
}

}  // namespace minicpmv
