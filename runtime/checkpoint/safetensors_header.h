#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace minicpmv {

// The format, https://github.com/huggingface/safetensors: eight bytes with the header's length,
// little-endian; the header, a JSON object {name: {"dtype", "shape", "data_offsets": [begin, end]},
// "__metadata__": {string: string}}; then the data, which the tensors tile without overlap or hole.
// Offsets count from the first byte after the header.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;            // as the format writes it: "BF16"
  std::vector<int64_t> shape;   // each >= 0; their product times the dtype's size is end - begin
  uint64_t begin = 0, end = 0;  // bytes from the first byte of the file, begin <= end <= its size
};

// The entries of a whole file, in the order of their data; all that the format promises has been
// checked. Touches the header's bytes only. `name` stands for the file in errors. DATA_LOSS:
// anything else than a whole file of this format. UNIMPLEMENTED: an unknown dtype.
// FAILED_PRECONDITION: a Git LFS pointer stands where the file should be.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(absl::Span<const uint8_t> file,
                                                                     absl::string_view name);

}  // namespace minicpmv
