#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/engine/local_model.h"

namespace minicpmv {

// Flags of all that loads a whole model, before they become LocalModelOptions.
struct ModelFlags {
  std::string folder, kv_dtype, devices, split;
  std::optional<int64_t> pages;
  std::optional<int> threads, depth;
  std::optional<double> step_ms;
  int64_t chunk = LocalModelOptions().chunk;

  // INVALID_ARGUMENT names the flag.
  absl::StatusOr<LocalModelOptions> ToOptions() const;
};

// --model alone.
void AddFolder(CLI::App& app, std::string& folder);
void AddModelFlags(CLI::App& app, ModelFlags& flags);

}  // namespace minicpmv
