#include "tools/minicpmv/command_line/subcommands.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "runtime/base/status_macros.h"
#include "tools/minicpmv/command_line/reply_flags.h"
#include "tools/minicpmv/command_line/values.h"
#include "tools/minicpmv/server_flags.h"

namespace minicpmv {
namespace {

constexpr int64_t kDefaultSteps = 24;

struct ChatFlags {
  ReplyFlags reply;
  ServerFlags server;
  bool json = false, bill = false;
  std::string trace;

  absl::StatusOr<Command> ToCommand(const CLI::App& app) const {
    RETURN_IF_ERROR(CheckChatFlags(app, server));
    ASSIGN_OR_RETURN(LocalModelOptions model, reply.model.ToOptions());
    ChatOptions chat = {std::move(model), reply.question, reply.ToReply(), json, bill, trace, {}};
    if (server.given()) chat.server = server.ToAccess();
    return Command(std::move(chat));
  }
};

struct TraceFlags {
  ReplyFlags reply;
  std::string out, force_tokens, tags;
  std::optional<int64_t> steps;
  bool layers = false;

  absl::StatusOr<Command> ToCommand() const {
    ASSIGN_OR_RETURN(LocalModelOptions model, reply.model.ToOptions());
    ReplyOptions options = reply.ToReply();
    if (!tags.empty()) options.tags = tags == "tokens" ? Tags::kTokens : Tags::kText;
    options.max_new_tokens = steps.value_or(options.max_new_tokens.value_or(kDefaultSteps));
    options.greedy = true;
    if (!options.repetition_penalty.has_value()) options.repetition_penalty = 1;
    return Command(
        TraceOptions{std::move(model), reply.question, options, out, force_tokens, layers});
  }
};

}  // namespace

Subcommand AddChat(CLI::App& root) {
  const auto flags = std::make_shared<ChatFlags>();
  CLI::App* const app = root.add_subcommand(
      "chat", "Answers questions about pictures, in this process or by a server");
  app->footer(
      "Without a question, and with a terminal on standard input, it holds a conversation.\n"
      "Examples:\n"
      "  minicpmv chat --image=photo.jpg \"What is in the image?\"\n"
      "  echo \"Which one is larger?\" | minicpmv chat --image=a.png --image=b.png --json\n"
      "  minicpmv chat --messages=conversation.json --seed=7 --temperature=0.7\n"
      "  minicpmv chat --max-slices=1 --no-image-id --image=f0.png --image=f1.png \"What happens "
      "in the video?\"\n"
      "  minicpmv chat --devices=cpu:threads=1,cpu:threads=1 \"Who are you?\"\n"
      "  minicpmv chat --server=127.0.0.1:50070 --image=photo.jpg \"What is in the image?\"\n"
      "  minicpmv chat --server=127.0.0.1:50070 --trace=chat.json \"Who are you?\"");
  AddReplyFlags(*app, flags->reply);
  AddServerFlags(*app, flags->server, /*is_required=*/false);
  app->add_flag("--json", flags->json, "One JSON object instead of the stream")->group("Answer");
  app->add_flag("--bill", flags->bill, "Seconds by stage and tokens, on standard error")
      ->group("Answer");
  app->add_option("--trace", flags->trace,
                  "Where its time goes: Chrome's trace-event JSON, for ui.perfetto.dev")
      ->type_name("FILE")
      ->group("Answer");
  return {app, [app, flags] { return flags->ToCommand(*app); }};
}

Subcommand AddTrace(CLI::App& root) {
  const auto flags = std::make_shared<TraceFlags>();
  CLI::App* const app =
      root.add_subcommand("trace", "Answers greedily and writes what was computed on the way");
  app->footer(
      "Nothing is drawn, and there is no penalty unless told.\n"
      "Examples:\n"
      "  minicpmv trace --messages=case.json --out=trace.safetensors --kv-dtype=f32 "
      "--trace-layers\n"
      "  minicpmv trace --messages=case.json --out=trace.safetensors --steps=8 "
      "--force-tokens=ids.json");
  AddReplyFlags(*app, flags->reply);
  app->add_option("--out", flags->out, "The safetensors file to write")
      ->required()
      ->type_name("FILE")
      ->group("Trace");
  app->add_option("--steps", flags->steps, "Most tokens to choose (24)")
      ->check(Whole(1, kMaxCount))
      ->type_name("N")
      ->group("Trace");
  app->add_flag("--trace-layers", flags->layers, "Pixels and the input to each layer, too")
      ->group("Trace");
  app->add_option("--tags", flags->tags, "Tags in a user's text are text or tokens (text)")
      ->check(OneOf({"text", "tokens"}))
      ->type_name("HOW")
      ->group("Trace");
  app->add_option("--force-tokens", flags->force_tokens,
                  "A JSON list of ids that are fed whatever is chosen")
      ->type_name("FILE")
      ->group("Trace");
  return {app, [flags] { return flags->ToCommand(); }};
}

}  // namespace minicpmv
