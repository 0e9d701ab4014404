// Any bytes as the file of --config, of a subcommand with flags of every kind: an error names the
// file or the flag, on one line.
#include <cstdint>
#include <string>

#include "tests/fuzz/memory_file.h"
#include "tools/minicpmv/command_line.h"
#include "tools/minicpmv/command_line/settings.h"
#include "tools/minicpmv/command_line/subcommands.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace minicpmv;
  const MemoryFile file(data, size);
  const std::string config = absl::StrCat("--config=", file.path());
  static CLI::App* const root = [] {
    auto* const app = new CLI::App;
    AddSubcommands(*app);
    return app;
  }();
  // The reading of it alone is quick; the whole command line only where that went well.
  const absl::StatusOr<std::vector<std::string>> completed =
      CompleteArguments(*root, {"cluster", config});
  if (!completed.ok()) {
    CheckNamesTheFile(completed.status(), file.path());
    return 0;
  }
  CHECK(completed->size() >= 2);
  const char* const arguments[] = {"minicpmv", "cluster", config.c_str()};
  const absl::StatusOr<std::optional<Command>> command = ParseCommandLine(3, arguments);
  CHECK(command.ok() || !absl::StrContains(command.status().message(), "\n")) << command.status();
  return 0;
}
