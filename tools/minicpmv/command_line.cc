#include "tools/minicpmv/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "services/common/process_metrics.h"
#include "tools/minicpmv/command_line/settings.h"
#include "tools/minicpmv/command_line/subcommands.h"

namespace minicpmv {
namespace {

// "--stop= QUESTION" would take the question for what the flag lacks.
absl::Status CheckNoValueIsEmpty(int argc, const char* const* argv) {
  for (int i = 1; i < argc && absl::string_view(argv[i]) != "--"; ++i) {
    absl::string_view flag = argv[i];
    if (absl::StartsWith(flag, "--") && absl::ConsumeSuffix(&flag, "=") &&
        !absl::StrContains(flag, '=')) {
      return absl::InvalidArgumentError(absl::StrCat(Quoted(argv[i]), ": no value after the flag"));
    }
  }
  return absl::OkStatus();
}

std::string OneLine(const std::string& words) {
  return absl::StrJoin(absl::StrSplit(words, '\n', absl::SkipEmpty()), "; ");
}

bool HasSubcommand(const CLI::App& root, const std::string& name) {
  const std::vector<const CLI::App*> found =
      root.get_subcommands([&](const CLI::App* app) { return app->get_name() == name; });
  return !found.empty();
}

// What can be checked beyond the flags themselves.
template <typename Options>
absl::Status Check(const Options& options) {
  if constexpr (requires { CheckSettings(options); }) return CheckSettings(options);
  return absl::OkStatus();
}

}  // namespace

std::vector<Subcommand> AddSubcommands(CLI::App& root) {
  std::vector<Subcommand> subcommands = {
      AddChat(root),    AddWorkers(root), AddServe(root),    AddRouter(root),  AddVision(root),
      AddPrefill(root), AddDecode(root),  AddWorker(root),   AddGateway(root), AddCluster(root),
      AddInspect(root), AddBench(root),   AddTokenize(root), AddTrace(root),
  };
  subcommands.insert(subcommands.begin(), AddBenchServe(*root.get_subcommand("bench")));
  for (const Subcommand& subcommand : subcommands) AddSettingsFlags(*subcommand.app);
  return subcommands;
}

absl::StatusOr<std::optional<Command>> ParseCommandLine(int argc, const char* const* argv) {
  CLI::App root("Answers questions about pictures with the MiniCPM-V models.", "minicpmv");
  root.set_version_flag("--version", absl::StrCat("minicpmv ", kVersion));
  root.require_subcommand(1);
  root.footer(
      "Examples:\n"
      "  minicpmv chat --image=photo.jpg \"What is in the image?\"\n"
      "  minicpmv chat --model=MiniCPM-V-2_6                       # a conversation\n"
      "  minicpmv inspect --model=MiniCPM-V-2_6\n"
      "  minicpmv chat --help");
  const std::vector<Subcommand> subcommands = AddSubcommands(root);
  RETURN_IF_ERROR(CheckNoValueIsEmpty(argc, argv));
  ASSIGN_OR_RETURN(std::vector<std::string> arguments,
                   CompleteArguments(root, std::vector<std::string>(argv + 1, argv + argc)));
  try {
    // In this form CLI11 wants the last one first.
    std::reverse(arguments.begin(), arguments.end());
    root.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // help was asked for
      root.exit(error);
      return std::optional<Command>();
    }
    if (argc > 1 && argv[1][0] != '-' && !HasSubcommand(root, argv[1])) {
      return absl::InvalidArgumentError(absl::StrCat("there is no subcommand ", Quoted(argv[1])));
    }
    return absl::InvalidArgumentError(OneLine(error.what()));
  }
  for (const Subcommand& subcommand : subcommands) {
    if (!subcommand.app->parsed()) continue;
    ASSIGN_OR_RETURN(Command command, subcommand.to_command());
    if (subcommand.app->count("--check-config") > 0) {
      RETURN_IF_ERROR(std::visit([](const auto& options) { return Check(options); }, command));
      return std::optional<Command>();
    }
    return std::optional<Command>(std::move(command));
  }
  return absl::InternalError("no subcommand was parsed");
}

}  // namespace minicpmv
