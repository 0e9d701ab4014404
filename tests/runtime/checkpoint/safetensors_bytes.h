#pragma once

#include <cstdint>
#include <fstream>
#include <string>

#include "absl/strings/string_view.h"

namespace minicpmv {

// A file as the format has it: the header's length, the header, and `data_bytes` bytes 0, 1, 2, ...
inline std::string SafetensorsBytes(absl::string_view header, size_t data_bytes) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(uint64_t{header.size()} >> (8 * i));
  file.append(header.data(), header.size());
  for (size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

inline void WriteBytes(const std::string& path, absl::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace minicpmv
