#include "tools/minicpmv/command_line/subcommands.h"

#include <memory>
#include <string>
#include <utility>

#include "runtime/base/status_macros.h"
#include "tools/minicpmv/command_line/model_flags.h"
#include "tools/minicpmv/command_line/values.h"

namespace minicpmv {
namespace {

constexpr int64_t kMaxBatch = 1024;

struct TokenizeFlags {
  std::string folder;
  bool decode = false, special = false;
};

struct BenchFlags {
  ModelFlags model;
  BenchOptions bench;

  absl::StatusOr<Command> ToCommand() const {
    BenchOptions options = bench;
    ASSIGN_OR_RETURN(options.model, model.ToOptions());
    return Command(std::move(options));
  }
};

}  // namespace

Subcommand AddTokenize(CLI::App& root) {
  const auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* const app = root.add_subcommand(
      "tokenize", "JSON strings on standard input, one a line, to lists of token ids");
  app->footer(
      "Examples:\n"
      "  echo '\"What is it?\"' | minicpmv tokenize\n"
      "  echo '[3838, 374, 432]' | minicpmv tokenize --model=MiniCPM-V-2_6 --decode");
  AddFolder(*app, flags->folder);
  CLI::Option* const decode =
      app->add_flag("--decode", flags->decode, "Lists of ids to JSON strings");
  app->add_flag("--special", flags->special, "Special tokens in a text are tokens")
      ->excludes(decode);
  return {app, [flags] {
            return Command(TokenizeOptions{
                flags->folder, flags->special ? Tags::kTokens : Tags::kText, flags->decode});
          }};
}

Subcommand AddInspect(CLI::App& root) {
  const auto folder = std::make_shared<std::string>();
  CLI::App* const app =
      root.add_subcommand("inspect", "What a model's folder holds: family, sizes, memory, tensors");
  app->footer("Examples:\n  minicpmv inspect\n  minicpmv inspect --model=MiniCPM-V-2_6");
  AddFolder(*app, *folder);
  return {app, [folder] { return Command(InspectOptions{*folder}); }};
}

Subcommand AddBench(CLI::App& root) {
  const auto flags = std::make_shared<BenchFlags>();
  CLI::App* const app = root.add_subcommand(
      "bench", "Measures decode, prefill and vision beside what the machine could do");
  app->footer(
      "Examples:\n"
      "  minicpmv bench\n"
      "  minicpmv bench --model=MiniCPM-V-2_6 --threads=2 --prompt=512 --tokens=32 --batch=1,8 "
      "--json");
  AddModelFlags(*app, flags->model);
  app->add_option("--prompt", flags->bench.prompt, "Tokens of a prompt (512)")
      ->check(Whole(1, kMaxCount))
      ->type_name("N");
  app->add_option("--tokens", flags->bench.tokens, "Tokens decoded after it (32)")
      ->check(Whole(1, kMaxCount))
      ->type_name("N");
  app->add_option("--batch", flags->bench.batch, "Sequences at once (1,8)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(Whole(1, kMaxBatch))
      ->type_name("LIST");
  app->add_option("--slices", flags->bench.slices, "Sub-images to encode (1)")
      ->check(Whole(1, kMaxSliceFlag))
      ->type_name("N");
  app->add_flag("--json", flags->bench.json, "One JSON object instead of a table");
  return {app, [flags] { return flags->ToCommand(); }};
}

}  // namespace minicpmv
