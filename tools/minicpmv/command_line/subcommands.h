#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/minicpmv/command_line.h"

namespace minicpmv {

// A subcommand, and what its flags ask for once they have been parsed: INVALID_ARGUMENT names the
// flag. The values of the flags live in here, so this outlives the parsing. The values are kept by
// to_command: let go of it after parsing.
struct Subcommand {
  CLI::App* app = nullptr;
  std::function<absl::StatusOr<Command>()> to_command;
};

// All of them, those under another before it, with --config and --check-config.
std::vector<Subcommand> AddSubcommands(CLI::App& root);

// Each adds one to the command line, which outlives it.

// answers.cc
Subcommand AddChat(CLI::App& root);
Subcommand AddTrace(CLI::App& root);

// local_tools.cc
Subcommand AddTokenize(CLI::App& root);
Subcommand AddInspect(CLI::App& root);
Subcommand AddBench(CLI::App& root);

// load_tools.cc: under the subcommand bench.
Subcommand AddBenchServe(CLI::App& bench);

// services.cc
Subcommand AddVision(CLI::App& root);
Subcommand AddPrefill(CLI::App& root);
Subcommand AddDecode(CLI::App& root);
Subcommand AddWorker(CLI::App& root);
Subcommand AddRouter(CLI::App& root);
Subcommand AddGateway(CLI::App& root);
Subcommand AddServe(CLI::App& root);
// After the roles, whose flags it looks up.
Subcommand AddCluster(CLI::App& root);

// fleet_tools.cc
Subcommand AddWorkers(CLI::App& root);

}  // namespace minicpmv
