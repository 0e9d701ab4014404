#include "tools/minicpmv/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/base/blame.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "tools/minicpmv/server_flags.h"

namespace minicpmv {
namespace {

constexpr int64_t kMaxCount = INT32_MAX;
constexpr int64_t kMaxChunk = 1 << 16;
constexpr int64_t kMaxDepth = 64;
constexpr int64_t kMaxSlices = 1024;
constexpr int64_t kMaxBatch = 1024;
constexpr double kMaxStepMs = 1e9;
constexpr int64_t kDefaultSteps = 24;

// A whole number in [min, max].
CLI::Validator Whole(int64_t min, int64_t max) {
  return CLI::Validator(
      [=](const std::string& text) -> std::string {
        int64_t number;
        if (absl::SimpleAtoi(text, &number) && number >= min && number <= max) return "";
        return absl::StrCat(Quoted(text), " is no whole number in [", min, ", ", max, "]");
      },
      "");
}

CLI::Validator Seed() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        uint64_t number;
        if (absl::SimpleAtoi(text, &number)) return "";
        return absl::StrCat(Quoted(text), " is no whole number in [0, ", UINT64_MAX, "]");
      },
      "");
}

// A number in [min, max], or in (min, max].
CLI::Validator Number(double min, double max, bool with_min) {
  return CLI::Validator(
      [=](const std::string& text) -> std::string {
        double number;
        if (absl::SimpleAtod(text, &number) && number <= max &&
            (with_min ? number >= min : number > min)) {
          return "";
        }
        return absl::StrCat(Quoted(text), " is no number in ", with_min ? "[" : "(", min, ", ", max,
                            "]");
      },
      "");
}

CLI::Validator OneOf(std::vector<std::string> names) {
  return CLI::Validator(
      [names = std::move(names)](const std::string& text) -> std::string {
        for (const std::string& name : names) {
          if (text == name) return "";
        }
        return absl::StrCat(Quoted(text), " is none of ", absl::StrJoin(names, ", "));
      },
      "");
}

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

// Flags of all that loads a whole model, before they become LocalModelOptions.
struct ModelFlags {
  std::string folder, kv_dtype, devices, split;
  std::optional<int64_t> pages;
  std::optional<int> threads, depth;
  std::optional<double> step_ms;
  int64_t chunk = LocalModelOptions().chunk;

  absl::StatusOr<LocalModelOptions> ToOptions() const {
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
};

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

// Flags of chat and trace, before they become options.
struct ReplyFlags {
  ModelFlags model;
  QuestionOptions question;
  ReplyOptions reply;
  bool no_image_ids = false;
  std::string exif = "apply";

  ReplyOptions ToReply() const {
    ReplyOptions options = reply;
    options.image_ids = !no_image_ids;
    options.exif = exif == "ignore" ? Exif::kIgnore : Exif::kApply;
    if (options.reference_quirks) options.tags = Tags::kTokens;
    return options;
  }
};

// Values that a flag takes more than once, one each time: what follows is not swallowed.
void AddRepeated(CLI::App& app, const std::string& name, std::vector<std::string>& values,
                 const std::string& words, const std::string& type, const std::string& group) {
  app.add_option(name, values, words)->allow_extra_args(false)->type_name(type)->group(group);
}

void AddReplyFlags(CLI::App& app, ReplyFlags& flags) {
  AddModelFlags(app, flags.model);
  const std::string asking = "Question";
  CLI::Option* const text =
      app.add_option("question", flags.question.text, "The question (else standard input)");
  AddRepeated(app, "--image", flags.question.images,
              "A picture before the question; as often as need be", "FILE", asking);
  app.add_option("--messages", flags.question.messages,
                 "A conversation in the OpenAI chat form instead")
      ->type_name("FILE")
      ->group(asking)
      ->excludes(text)
      ->excludes(app.get_option("--image"));
  app.add_option("--system", flags.question.system, "The system message (the model's own)")
      ->group(asking);
  app.add_option("--max-slices", flags.reply.max_slices,
                 "Most slices of a picture; 1: overview only (the model's)")
      ->check(Whole(1, kMaxSlices))
      ->type_name("N")
      ->group(asking);
  app.add_flag("--no-image-id", flags.no_image_ids,
               "Pictures are not numbered, as for frames of a video")
      ->group(asking);
  app.add_option("--exif", flags.exif,
                 "apply: turn pictures upright; ignore: as the original does (apply)")
      ->check(OneOf({"apply", "ignore"}))
      ->type_name("HOW")
      ->group(asking);
  app.add_option("--max-prompt-tokens", flags.reply.max_prompt_tokens,
                 "A longer prompt is refused (the model's)")
      ->check(Whole(1, kMaxCount))
      ->type_name("N")
      ->group(asking);
  app.add_flag("--reference-quirks", flags.reply.reference_quirks,
               "What the original does by accident, too: \"!\" is not seen, tags in a text are "
               "tokens, answers are stripped")
      ->group(asking);

  const std::string answering = "Answer";
  app.add_option("--temperature", flags.reply.temperature, "(the model's)")
      ->check(Number(0, kMaxTemperature, false))
      ->type_name("T")
      ->group(answering);
  app.add_option("--top-p", flags.reply.top_p, "(the model's)")
      ->check(Number(0, 1, false))
      ->type_name("P")
      ->group(answering);
  app.add_option("--top-k", flags.reply.top_k, "0: off (the model's)")
      ->check(Whole(0, kMaxTopK))
      ->type_name("K")
      ->group(answering);
  app.add_option("--repetition-penalty", flags.reply.repetition_penalty, "1: off (the model's)")
      ->check(Number(1 / kMaxPenalty, kMaxPenalty, true))
      ->type_name("P")
      ->group(answering);
  app.add_option("--min-new-tokens", flags.reply.min_new_tokens,
                 "The answer does not end before (0)")
      ->check(Whole(0, kMaxCount))
      ->type_name("N")
      ->group(answering);
  app.add_option("--max-new-tokens", flags.reply.max_new_tokens,
                 "The answer is cut after (the model's)")
      ->check(Whole(1, kMaxCount))
      ->type_name("N")
      ->group(answering);
  AddRepeated(app, "--stop", flags.reply.stop,
              "The answer ends before this text; as often as need be", "TEXT", answering);
  app.add_option("--seed", flags.reply.seed, "Of the draws (drawn, and told by --json and --bill)")
      ->check(Seed())
      ->type_name("N")
      ->group(answering);
  app.add_flag("--greedy", flags.reply.greedy, "Nothing is drawn; the penalty stays as it is")
      ->group(answering);
}

class Flags {
 public:
  Flags() {
    app_.set_version_flag("--version", "minicpmv 0.1.0");
    app_.require_subcommand(1);
    app_.footer(
        "Examples:\n"
        "  minicpmv chat --image=photo.jpg \"What is in the image?\"\n"
        "  minicpmv chat --model=MiniCPM-V-2_6                       # a conversation\n"
        "  minicpmv inspect --model=MiniCPM-V-2_6\n"
        "  minicpmv chat --help");
    AddChat();
    AddTrace();
    AddTokenize();
    AddInspect();
    AddBench();
    AddWorkers();
  }

  // Nothing: help was asked for, and given.
  absl::StatusOr<std::optional<Command>> Parse(int argc, const char* const* argv) {
    RETURN_IF_ERROR(CheckNoValueIsEmpty(argc, argv));
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) {
        app_.exit(error);
        return std::optional<Command>();
      }
      if (argc > 1 && argv[1][0] != '-' && !HasSubcommand(argv[1])) {
        return absl::InvalidArgumentError(absl::StrCat("there is no subcommand ", Quoted(argv[1])));
      }
      return absl::InvalidArgumentError(OneLine(error.what()));
    }
    return Chosen();
  }

 private:
  static std::string OneLine(const std::string& words) {
    return absl::StrJoin(absl::StrSplit(words, '\n', absl::SkipEmpty()), "; ");
  }

  bool HasSubcommand(const std::string& name) const {
    for (const CLI::App* const subcommand :
         {chat_, trace_, tokenize_, inspect_, bench_, workers_}) {
      if (subcommand->get_name() == name) return true;
    }
    return false;
  }

  absl::StatusOr<std::optional<Command>> Chosen() const {
    if (chat_->parsed()) {
      RETURN_IF_ERROR(CheckChatFlags(*chat_, server_flags_));
      ASSIGN_OR_RETURN(LocalModelOptions model, reply_flags_.model.ToOptions());
      ChatOptions chat = {std::move(model), reply_flags_.question, reply_flags_.ToReply(), json_,
                          bill_};
      if (server_flags_.given()) chat.server = server_flags_.ToAccess();
      return Command(std::move(chat));
    }
    if (workers_->parsed()) return Command(WorkersOptions{server_flags_.ToAccess(), json_});
    if (trace_->parsed()) {
      ASSIGN_OR_RETURN(LocalModelOptions model, trace_flags_.model.ToOptions());
      ReplyOptions reply = trace_flags_.ToReply();
      if (!tags_.empty()) reply.tags = tags_ == "tokens" ? Tags::kTokens : Tags::kText;
      reply.max_new_tokens = steps_.value_or(reply.max_new_tokens.value_or(kDefaultSteps));
      reply.greedy = true;
      if (!reply.repetition_penalty.has_value()) reply.repetition_penalty = 1;
      return Command(TraceOptions{std::move(model), trace_flags_.question, reply, out_,
                                  force_tokens_, layers_});
    }
    if (tokenize_->parsed()) {
      return Command(TokenizeOptions{folder_, special_ ? Tags::kTokens : Tags::kText, decode_});
    }
    if (inspect_->parsed()) return Command(InspectOptions{folder_});
    ASSIGN_OR_RETURN(LocalModelOptions model, bench_flags_.ToOptions());
    BenchOptions bench = bench_options_;
    bench.model = std::move(model);
    return Command(std::move(bench));
  }

  void AddChat() {
    chat_ = app_.add_subcommand("chat",
                                "Answers questions about pictures, in this process or by a server");
    chat_->footer(
        "Without a question, and with a terminal on standard input, it holds a conversation.\n"
        "Examples:\n"
        "  minicpmv chat --image=photo.jpg \"What is in the image?\"\n"
        "  echo \"Which one is larger?\" | minicpmv chat --image=a.png --image=b.png --json\n"
        "  minicpmv chat --messages=conversation.json --seed=7 --temperature=0.7\n"
        "  minicpmv chat --max-slices=1 --no-image-id --image=f0.png --image=f1.png \"What happens "
        "in the video?\"\n"
        "  minicpmv chat --devices=cpu:threads=1,cpu:threads=1 \"Who are you?\"\n"
        "  minicpmv chat --server=127.0.0.1:50070 --image=photo.jpg \"What is in the image?\"");
    AddReplyFlags(*chat_, reply_flags_);
    AddServerFlags(*chat_, server_flags_, /*is_required=*/false);
    chat_->add_flag("--json", json_, "One JSON object instead of the stream")->group("Answer");
    chat_->add_flag("--bill", bill_, "Seconds by stage and tokens, on standard error")
        ->group("Answer");
  }

  void AddTrace() {
    trace_ =
        app_.add_subcommand("trace", "Answers greedily and writes what was computed on the way");
    trace_->footer(
        "Nothing is drawn, and there is no penalty unless told.\n"
        "Examples:\n"
        "  minicpmv trace --messages=case.json --out=trace.safetensors --kv-dtype=f32 "
        "--trace-layers\n"
        "  minicpmv trace --messages=case.json --out=trace.safetensors --steps=8 "
        "--force-tokens=ids.json");
    AddReplyFlags(*trace_, trace_flags_);
    trace_->add_option("--out", out_, "The safetensors file to write")
        ->required()
        ->type_name("FILE")
        ->group("Trace");
    trace_->add_option("--steps", steps_, "Most tokens to choose (24)")
        ->check(Whole(1, kMaxCount))
        ->type_name("N")
        ->group("Trace");
    trace_->add_flag("--trace-layers", layers_, "Pixels and the input to each layer, too")
        ->group("Trace");
    trace_->add_option("--tags", tags_, "Tags in a user's text are text or tokens (text)")
        ->check(OneOf({"text", "tokens"}))
        ->type_name("HOW")
        ->group("Trace");
    trace_
        ->add_option("--force-tokens", force_tokens_,
                     "A JSON list of ids that are fed whatever is chosen")
        ->type_name("FILE")
        ->group("Trace");
  }

  void AddTokenize() {
    tokenize_ = app_.add_subcommand(
        "tokenize", "JSON strings on standard input, one a line, to lists of token ids");
    tokenize_->footer(
        "Examples:\n"
        "  echo '\"What is it?\"' | minicpmv tokenize\n"
        "  echo '[3838, 374, 432]' | minicpmv tokenize --model=MiniCPM-V-2_6 --decode");
    AddFolder(*tokenize_, folder_);
    CLI::Option* const decode =
        tokenize_->add_flag("--decode", decode_, "Lists of ids to JSON strings");
    tokenize_->add_flag("--special", special_, "Special tokens in a text are tokens")
        ->excludes(decode);
  }

  void AddInspect() {
    inspect_ = app_.add_subcommand("inspect",
                                   "What a model's folder holds: family, sizes, memory, tensors");
    inspect_->footer("Examples:\n  minicpmv inspect\n  minicpmv inspect --model=MiniCPM-V-2_6");
    AddFolder(*inspect_, folder_);
  }

  void AddBench() {
    bench_ = app_.add_subcommand(
        "bench", "Measures decode, prefill and vision beside what the machine could do");
    bench_->footer(
        "Examples:\n"
        "  minicpmv bench\n"
        "  minicpmv bench --model=MiniCPM-V-2_6 --threads=2 --prompt=512 --tokens=32 --batch=1,8 "
        "--json");
    AddModelFlags(*bench_, bench_flags_);
    bench_->add_option("--prompt", bench_options_.prompt, "Tokens of a prompt (512)")
        ->check(Whole(1, kMaxCount))
        ->type_name("N");
    bench_->add_option("--tokens", bench_options_.tokens, "Tokens decoded after it (32)")
        ->check(Whole(1, kMaxCount))
        ->type_name("N");
    bench_->add_option("--batch", bench_options_.batch, "Sequences at once (1,8)")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(Whole(1, kMaxBatch))
        ->type_name("LIST");
    bench_->add_option("--slices", bench_options_.slices, "Sub-images to encode (1)")
        ->check(Whole(1, kMaxSlices))
        ->type_name("N");
    bench_->add_flag("--json", bench_options_.json, "One JSON object instead of a table");
  }

  void AddWorkers() {
    workers_ = app_.add_subcommand("workers", "The workers of a fleet, as a router sees them");
    workers_->footer(
        "Examples:\n"
        "  minicpmv workers --server=127.0.0.1:50070\n"
        "  minicpmv workers --server=127.0.0.1:50070 --json");
    AddServerFlags(*workers_, server_flags_, /*is_required=*/true);
    workers_->add_flag("--json", json_, "A JSON list instead of a table");
  }

  CLI::App app_{"Answers questions about pictures with the MiniCPM-V models.", "minicpmv"};
  CLI::App *chat_ = nullptr, *trace_ = nullptr, *tokenize_ = nullptr, *inspect_ = nullptr,
           *bench_ = nullptr, *workers_ = nullptr;
  ReplyFlags reply_flags_, trace_flags_;
  ServerFlags server_flags_;
  bool json_ = false, bill_ = false;
  std::string out_, force_tokens_, tags_;
  std::optional<int64_t> steps_;
  bool layers_ = false;
  std::string folder_;
  bool decode_ = false, special_ = false;
  ModelFlags bench_flags_;
  BenchOptions bench_options_;
};

}  // namespace

absl::StatusOr<std::optional<Command>> ParseCommandLine(int argc, const char* const* argv) {
  return Flags().Parse(argc, argv);
}

}  // namespace minicpmv
