#include "tools/minicpmv/command_line/subcommands.h"

#include <memory>

#include "tools/minicpmv/server_flags.h"

namespace minicpmv {
namespace {

struct WorkersFlags {
  ServerFlags server;
  bool json = false;
};

}  // namespace

Subcommand AddWorkers(CLI::App& root) {
  const auto flags = std::make_shared<WorkersFlags>();
  CLI::App* const app =
      root.add_subcommand("workers", "The workers of a fleet, as a router sees them");
  app->footer(
      "Examples:\n"
      "  minicpmv workers --server=127.0.0.1:50070\n"
      "  minicpmv workers --server=127.0.0.1:50070 --json");
  AddServerFlags(*app, flags->server, /*is_required=*/true);
  app->add_flag("--json", flags->json, "A JSON list instead of a table");
  return {app, [flags] { return Command(WorkersOptions{flags->server.ToAccess(), flags->json}); }};
}

}  // namespace minicpmv
