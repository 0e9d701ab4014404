#include "tools/minicpmv/load/bench_serve.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "runtime/base/blame.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "tools/minicpmv/interrupts.h"
#include "tools/minicpmv/load/load_report.h"
#include "tools/minicpmv/load/load_run.h"
#include "tools/minicpmv/load/load_script.h"
#include "tools/minicpmv/load/load_text.h"
#include "tools/minicpmv/output.h"

namespace minicpmv {
namespace {

// Of the model whose lengths the published ones are.
constexpr double kPublishedContext = 32768;
constexpr double kMaxConversations = 1e6;
constexpr absl::string_view kJson = "--json", kScript = "--script";
// Beyond this the figures say more about this machine than about the fleet.
constexpr absl::Duration kLate = absl::Milliseconds(10);

// Name and value of each part of "name:value,name:value"; a name comes once.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ParsePairs(
    absl::string_view text) {
  std::vector<std::pair<std::string, std::string>> pairs;
  std::set<absl::string_view> names;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(part, ':');
    if (!names.insert(pair.first).second) {
      return absl::InvalidArgumentError(absl::StrCat(Quoted(pair.first), " comes twice"));
    }
    pairs.emplace_back(pair);
  }
  return pairs;
}

absl::StatusOr<int64_t> PromptTokens(sdk::Client& client, std::string text) {
  chat::v1::GenerateReplyRequest request;
  chat::v1::Message& message = *request.mutable_conversation()->add_messages();
  message.set_role(chat::v1::ROLE_USER);
  message.add_parts()->set_text(std::move(text));
  request.mutable_options()->mutable_sampling()->set_greedy(true);
  request.mutable_options()->set_max_new_tokens(1);
  ASSIGN_OR_RETURN(const chat::v1::GenerateReplyResponse response, client.GenerateReply(request));
  return response.usage().prompt_tokens();
}

// Two questions tell it apart from what a prompt has besides.
absl::StatusOr<double> TokensPerWord(sdk::Client& client) {
  ASSIGN_OR_RETURN(const int64_t once, PromptTokens(client, AllWords(1)));
  ASSIGN_OR_RETURN(const int64_t twice, PromptTokens(client, AllWords(2)));
  if (twice <= once) return absl::InternalError("a longer prompt has no more tokens");
  return static_cast<double>(twice - once) / static_cast<double>(LoadWords());
}

absl::StatusOr<chat::v1::Model> ServedModel(sdk::Client& client) {
  ASSIGN_OR_RETURN(const chat::v1::ListModelsResponse response, client.ListModels());
  if (response.models().empty()) return absl::UnavailableError("no model is served");
  return response.models(0);
}

std::string LineOf(const LoadProgress& progress, absl::Duration duration, int64_t tokens_before) {
  return absl::StrFormat(
      "bench serve %.0f/%.0f s: %d sent, %d waiting, %d open, %d completed, %d refused, %d failed, "
      "%d tokens/s\n",
      absl::ToDoubleSeconds(progress.at), absl::ToDoubleSeconds(duration), progress.sent,
      progress.waiting, progress.open, progress.completed, progress.refused, progress.failed,
      progress.tokens - tokens_before);
}

// `mode` as fopen has it.
absl::Status WriteFile(absl::string_view flag, const std::string& path, const char* mode,
                       const std::string& text) {
  std::FILE* const file = std::fopen(path.c_str(), mode);
  if (file == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": ", path, " cannot be written"));
  }
  const bool is_written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (std::fclose(file) != 0 || !is_written) {
    return absl::UnavailableError(absl::StrCat(path, ": could not be written to its end"));
  }
  return absl::OkStatus();
}

absl::Status WriteScript(const std::string& path, absl::Span<const PlannedConversation> plan,
                         double tokens_per_word) {
  RETURN_IF_ERROR(WriteFile(kScript, path, "wb", ""));
  for (const PlannedConversation& conversation : plan) {
    // One at a time: pictures are large.
    RETURN_IF_ERROR(WriteFile(kScript, path, "ab", ScriptLineOf(conversation, tokens_per_word)));
  }
  return WriteOutput(absl::StrCat(plan.size(), " conversations are in ", path, "\n"));
}

}  // namespace

absl::StatusOr<LoadMix> ParseMix(absl::string_view text) {
  LoadMix mix = {};
  ASSIGN_OR_RETURN(const auto pairs, ParsePairs(text));
  for (const auto& [name, value] : pairs) {
    const auto* const found =
        std::find_if(kLoadClasses.begin(), kLoadClasses.end(),
                     [&](LoadClass load_class) { return NameOf(load_class) == name; });
    if (found == kLoadClasses.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(name), " is none of text, image, images"));
    }
    double share;
    if (!absl::SimpleAtod(value, &share) || !(share >= 0 && share <= 1e6)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": ", Quoted(value), " is no number in [0, 1e6]"));
    }
    mix[static_cast<size_t>(*found)] = share;
  }
  if (*std::max_element(mix.begin(), mix.end()) == 0) {
    return absl::InvalidArgumentError("every share is 0");
  }
  return mix;
}

absl::StatusOr<Slo> ParseSlo(absl::string_view text) {
  Slo slo;
  ASSIGN_OR_RETURN(const auto pairs, ParsePairs(text));
  for (const auto& [name, value] : pairs) {
    if (name != "ttft" && name != "itl") {
      return absl::InvalidArgumentError(absl::StrCat(Quoted(name), " is neither ttft nor itl"));
    }
    absl::Duration& bound = name == "ttft" ? slo.ttft : slo.itl;
    if (!absl::ParseDuration(value, &bound) || bound < absl::ZeroDuration()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": ", Quoted(value), " is no duration as 500ms, 1.5s or 2m"));
    }
  }
  return slo;
}

absl::Status BenchServe(const BenchServeOptions& options) {
  Interrupts interrupts({SIGINT, SIGTERM});
  // Until there are figures to save.
  interrupts.Set([] { std::_Exit(1); });
  if (options.load.rate * absl::ToDoubleSeconds(options.load.duration) > kMaxConversations) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rate: more than ", kMaxConversations, " conversations in --seconds"));
  }
  // Whether it can be written is known before the load, not after it.
  if (!options.json.empty()) RETURN_IF_ERROR(WriteFile(kJson, options.json, "ab", ""));
  ASSIGN_OR_RETURN(const std::unique_ptr<sdk::Client> client,
                   ConnectTo(options.server, options.patience));
  ASSIGN_OR_RETURN(const chat::v1::Model served, ServedModel(*client));
  LoadModel model = {served.context_tokens(), served.max_slices(), served.slice_tokens()};
  if (options.context.has_value()) {
    model.context_tokens = std::min(model.context_tokens, *options.context);
  }
  if (model.context_tokens < kLeastContext) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the model's context of ", model.context_tokens, " tokens is below ", kLeastContext));
  }
  LoadOptions load = options.load;
  load.scale = options.scale.value_or(
      std::min(1.0, static_cast<double>(model.context_tokens) / kPublishedContext));
  LoadRunOptions run_options;
  run_options.streams = options.streams;
  run_options.duration = load.duration;
  run_options.timeout = options.timeout;
  run_options.context_tokens = model.context_tokens;
  ASSIGN_OR_RETURN(run_options.tokens_per_word, TokensPerWord(*client));

  std::vector<PlannedConversation> plan = PlanLoad(load, model);
  if (!options.script.empty()) {
    return WriteScript(options.script, plan, run_options.tokens_per_word);
  }

  LoadRun run(*client, std::move(plan), run_options);
  interrupts.Set([&run] { run.Stop(); });
  int64_t tokens = 0;
  LoadReport report;
  report.records = run.Run([&](const LoadProgress& progress) {
    WriteNotice(LineOf(progress, load.duration, tokens));
    tokens = progress.tokens;
  });
  interrupts.Set(nullptr);
  report.offered_rate = load.rate;
  report.duration = run.elapsed();
  report.slo = options.slo;
  if (run.lateness() > kLate) {
    WriteNotice(absl::StrCat("bench serve: conversations were drawn up to ",
                             absl::FormatDuration(run.lateness()),
                             " late: this machine is too busy for such a load\n"));
  }
  if (!options.json.empty()) {
    RETURN_IF_ERROR(WriteFile(kJson, options.json, "wb", JsonOf(report)));
  }
  return WriteOutput(TableOf(report));
}

}  // namespace minicpmv
