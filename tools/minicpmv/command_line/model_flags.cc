#include "tools/minicpmv/command_line/model_flags.h"

#include <utility>
#include <vector>

#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "tools/minicpmv/command_line/values.h"

namespace minicpmv {
namespace {

constexpr int64_t kMaxChunk = 1 << 16;
constexpr int64_t kMaxDepth = 64;
constexpr double kMaxStepMs = 1e9;

}  // namespace

absl::StatusOr<LocalModelOptions> ModelFlags::ToOptions() const {
  LocalModelOptions options;
  options.folder = folder;
  if (!kv_dtype.empty()) {
    ASSIGN_OR_RETURN(options.kv_dtype, DTypeFromName(kv_dtype));
  }
  if (!devices.empty()) {
    absl::StatusOr<std::vector<DeviceSpec>> parsed = ParseDevices(devices);
    if (!parsed.ok()) return Blame("--devices", parsed.status());
    options.devices = *std::move(parsed);
  }
  if (threads.has_value()) options.devices = {{*threads}};
  options.split = split;
  options.pages = pages;
  options.depth = depth;
  options.chunk = chunk;
  if (step_ms.has_value()) options.step_budget = absl::Milliseconds(*step_ms);
  return options;
}

void AddFolder(CLI::App& app, std::string& folder) {
  app.add_option("-m,--model", folder,
                 "A Hugging Face folder; without it the nano model beside this executable")
      ->type_name("DIR");
}

void AddModelFlags(CLI::App& app, ModelFlags& flags) {
  AddFolder(app, flags.folder);
  app.add_option("--kv-dtype", flags.kv_dtype,
                 "Cache and rows in f32, bf16 or f16 (the checkpoint's)")
      ->check(OneOf({"f32", "bf16", "f16"}))
      ->type_name("TYPE")
      ->group("Engine");
  CLI::Option* const threads =
      app.add_option("--threads", flags.threads, "Threads that compute (all cores)")
          ->check(Whole(1, kMaxThreads))
          ->type_name("N")
          ->group("Engine");
  app.add_option("--devices", flags.devices, "One stage each: cpu:threads=1,cpu:threads=1")
      ->type_name("LIST")
      ->group("Engine")
      ->excludes(threads);
  app.add_option("--split", flags.split, "Layers of each stage: 0-2,3-4 (balanced by bytes)")
      ->type_name("LIST")
      ->group("Engine");
  app.add_option("--pages", flags.pages, "Pages of 16 tokens in the cache (a whole context)")
      ->check(Whole(1, kMaxCount))
      ->type_name("N")
      ->group("Engine");
  app.add_option("--chunk", flags.chunk, "Most tokens of a prompt in one step (512)")
      ->check(Whole(1, kMaxChunk))
      ->type_name("N")
      ->group("Engine");
  app.add_option("--depth", flags.depth, "Steps in flight (one a stage)")
      ->check(Whole(1, kMaxDepth))
      ->type_name("N")
      ->group("Engine");
  app.add_option("--step-ms", flags.step_ms,
                 "While others decode, a step takes prompts for about this long (no limit)")
      ->check(Number(0, kMaxStepMs, false))
      ->type_name("MS")
      ->group("Engine");
}

}  // namespace minicpmv
