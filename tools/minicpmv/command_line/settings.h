#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace minicpmv {

// --config and --check-config, which every subcommand has.
void AddSettingsFlags(CLI::App& subcommand);

// The arguments behind the executable's name, completed: for each flag of the subcommand that they
// do not name, what the environment says (MINICPMV_DRAIN_GRACE for --drain-grace), or else the YAML
// file of --config (drain-grace: 30s), is put behind the subcommand's name
// ("bench serve" is one) as "--drain-grace=30s".
// So every value is checked alike, wherever it comes from. In the file a list stands for a flag
// that may be repeated, or for values with commas between them; true and false for a flag without a
// value. NOT_FOUND, INVALID_ARGUMENT: name the file or the variable.
absl::StatusOr<std::vector<std::string>> CompleteArguments(const CLI::App& root,
                                                           std::vector<std::string> arguments);

// "MINICPMV_DRAIN_GRACE" for "drain-grace".
std::string VariableOf(const std::string& flag);

}  // namespace minicpmv
