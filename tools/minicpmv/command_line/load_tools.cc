#include "tools/minicpmv/command_line/subcommands.h"

#include <memory>
#include <string>
#include <utility>

#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "tools/minicpmv/command_line/values.h"
#include "tools/minicpmv/server_flags.h"

namespace minicpmv {
namespace {

constexpr double kMaxRate = 1e5, kMaxSeconds = 1e6, kMaxTurns = 32;
constexpr int64_t kMaxStreams = 4096;

struct BenchServeFlags {
  ServerFlags server;
  BenchServeOptions bench;
  double seconds = 60;
  std::string mix, slo, think, timeout, patience;

  absl::StatusOr<Command> ToCommand() const {
    BenchServeOptions options = bench;
    options.server = server.ToAccess();
    options.load.duration = absl::Seconds(seconds);
    if (!mix.empty()) {
      absl::StatusOr<LoadMix> parsed = ParseMix(mix);
      if (!parsed.ok()) return Blame("--mix", parsed.status());
      options.load.mix = *parsed;
    }
    if (!slo.empty()) {
      absl::StatusOr<Slo> parsed = ParseSlo(slo);
      if (!parsed.ok()) return Blame("--slo", parsed.status());
      options.slo = *parsed;
    }
    // As their checks have seen.
    if (!think.empty()) absl::ParseDuration(think, &options.load.think);
    if (!timeout.empty()) absl::ParseDuration(timeout, &options.timeout);
    if (!patience.empty()) absl::ParseDuration(patience, &options.patience);
    return Command(std::move(options));
  }
};

}  // namespace

Subcommand AddBenchServe(CLI::App& bench) {
  const auto flags = std::make_shared<BenchServeFlags>();
  CLI::App* const app =
      bench.add_subcommand("serve", "Sends conversations to a fleet, and measures its replies");
  app->footer(
      "They are sent when it is their time, whatever became of those before.\n"
      "Examples:\n"
      "  minicpmv bench serve --server=127.0.0.1:50070 --rate=2 --seconds=60\n"
      "  minicpmv bench serve --server=127.0.0.1:50070 --rate=5 --mix=text:6,image:3,images:1 \\\n"
      "      --burstiness=0.5 --slo=ttft:2s,itl:200ms --json=figures.json\n"
      "  tools/plot_bench.py figures.json");
  AddServerFlags(*app, flags->server, /*is_required=*/true);
  LoadOptions& load = flags->bench.load;
  app->add_option("--rate", load.rate, "Conversations a second (1)")
      ->check(Number(0, kMaxRate, /*with_min=*/false))
      ->type_name("R");
  app->add_option("--seconds", flags->seconds, "For so long turns are sent (60)")
      ->check(Number(0, kMaxSeconds, /*with_min=*/false))
      ->type_name("S");
  app->add_option("--mix", flags->mix,
                  "Shares of text, image (one) and images (several): "
                  "text:6,image:3,images:1")
      ->type_name("LIST");
  app->add_option("--burstiness", load.burstiness,
                  "Shape of the Gamma distribution between arrivals: 1 is Poisson, below come "
                  "bursts (1)")
      ->check(Number(0.01, 1000, /*with_min=*/true))
      ->type_name("B");
  app->add_option("--seed", load.seed, "Equal seeds make equal loads (1)")
      ->check(Seed())
      ->type_name("N");
  app->add_option("--scale", flags->bench.scale,
                  "Of lengths and of pictures' areas, to those of the published trace (the "
                  "context against 32768)")
      ->check(Number(0, 1000, /*with_min=*/false))
      ->type_name("X");
  app->add_option("--context", flags->bench.context,
                  "Tokens of a conversation, replies and all, at most (the model's)")
      ->check(Whole(kLeastContext, kMaxCount))
      ->type_name("N");
  app->add_option("--turns", load.turns, "Turns of a conversation, in the mean (2)")
      ->check(Number(1, kMaxTurns, /*with_min=*/true))
      ->type_name("X");
  app->add_option("--think", flags->think, "From a reply's end to the next turn, in the mean (1s)")
      ->check(Duration())
      ->type_name("TIME");
  app->add_option("--streams", flags->bench.streams,
                  "Replies open at once, at most; waiting for one counts as latency (256)")
      ->check(Whole(1, kMaxStreams))
      ->type_name("N");
  app->add_option("--timeout", flags->timeout, "Of a request, from when it is due (5m)")
      ->check(Duration())
      ->type_name("TIME");
  app->add_option("--patience", flags->patience,
                  "How long a request goes on trying without any progress: a reply that breaks is "
                  "resumed, one that is turned away comes again (0: every error is a figure)")
      ->check(Duration())
      ->type_name("TIME");
  app->add_option("--slo", flags->slo,
                  "What a good reply keeps: its first token, and the mean between tokens "
                  "(ttft:2s,itl:200ms)")
      ->type_name("LIST");
  app->add_option("--json", flags->bench.json, "Where to write all figures as one JSON object")
      ->type_name("FILE");
  app->add_option(
         "--script", flags->bench.script,
         "Sends nothing: writes the first turn of each conversation as a JSON line for aiperf")
      ->type_name("FILE");
  return {app, [flags] { return flags->ToCommand(); }};
}

}  // namespace minicpmv
