#pragma once

#include <string>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// Which shard holds a tensor: {tensor: file name}. Read from model.safetensors.index.json,
// {"weight_map": {tensor: file name},
// ...}; its "metadata" is not believed, as published ones state wrong sizes.
using SafetensorsIndex = absl::btree_map<std::string, std::string>;

// `name` stands for the file in errors. INVALID_ARGUMENT: not that form, or a shard that would lie
// outside of the folder.
absl::StatusOr<SafetensorsIndex> ParseSafetensorsIndex(absl::string_view text,
                                                       absl::string_view name);

}  // namespace minicpmv
