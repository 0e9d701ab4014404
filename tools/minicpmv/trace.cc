#include "tools/minicpmv/trace.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/json_file.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/status_macros.h"
#include "runtime/checkpoint/safetensors_writer.h"
#include "runtime/engine/sampler.h"
#include "tools/minicpmv/layer_trace.h"
#include "tools/minicpmv/local_reply.h"
#include "tools/minicpmv/model_folder.h"
#include "tools/minicpmv/picture_rows.h"

namespace minicpmv {
namespace {

constexpr int64_t kPromptLogits = 8;
constexpr size_t kMaxListBytes = size_t{16} << 20;

absl::StatusOr<std::vector<int32_t>> ReadTokens(const std::string& path, int64_t vocabulary) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxListBytes));
  ASSIGN_OR_RETURN(const JsonObject object,
                   JsonObject::Parse(absl::StrCat("{\"ids\":", text, "}"), path));
  ASSIGN_OR_RETURN(const std::vector<int64_t> ids, object.IntList("ids", 0, vocabulary - 1));
  return std::vector<int32_t>(ids.begin(), ids.end());
}

// The logits that an engine showed, position after position.
struct Logits {
  int64_t first = -1;  // position
  std::vector<float> values;

  void Add(int64_t position, absl::Span<const float> row) {
    if (first < 0) first = position;
    values.insert(values.end(), row.begin(), row.end());
  }
};

void AddFloats(const std::string& name, const float* values, const Shape& shape,
               SafetensorsWriter& out) {
  out.Add(name, ConstTensorView(values, DType::kF32, shape));
}

void AddIds(const std::string& name, const std::vector<int32_t>& ids, SafetensorsWriter& out) {
  out.Add(name, ConstTensorView(ids.data(), DType::kI32, Shape{static_cast<int64_t>(ids.size())}));
}

// What would have been chosen at each step, had nothing been forced there.
absl::StatusOr<std::vector<int32_t>> ChosenTokens(const SamplingSettings& settings,
                                                  const Reply& reply, const float* logits,
                                                  int64_t steps, int64_t vocabulary) {
  Sampler sampler(settings, {});
  Sampler::Workspace workspace;
  std::vector<int32_t> chosen;
  for (int64_t i = 0; i < steps; ++i) {
    const absl::Span<const float> row(logits + i * vocabulary, static_cast<size_t>(vocabulary));
    ASSIGN_OR_RETURN(const int32_t token, sampler.Choose(row, reply.prompt_tokens + i, workspace));
    chosen.push_back(token);
    sampler.Append(reply.tokens[static_cast<size_t>(i)]);
  }
  return chosen;
}

absl::Status AddRows(LocalModel& model, const Prompt& prompt, const Conversation& conversation,
                     PictureRows& rows, SafetensorsWriter& out) {
  if (prompt.spans.empty()) return absl::OkStatus();
  const int64_t queries = model.spec().resampler.queries, hidden = model.spec().language.hidden;
  const Shape shape = {static_cast<int64_t>(prompt.spans.size()) * queries, hidden};
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  const TensorView all(values.data(), DType::kF32, shape);
  ASSIGN_OR_RETURN(Kernels* const kernels, model.VisionKernels());
  Bill ignored;
  for (size_t i = 0; i < prompt.spans.size(); ++i) {
    const Prompt::Span& span = prompt.spans[i];
    ASSIGN_OR_RETURN(const ConstTensorView made,
                     rows.Encode(conversation.pictures, span.image, span.sub_image, ignored));
    kernels->Cast(made, all.Rows(static_cast<int64_t>(i) * queries, queries));
  }
  RETURN_IF_ERROR(kernels->stream().Wait());
  AddFloats("rows", values.data(), shape, out);
  return absl::OkStatus();
}

absl::StatusOr<QuestionOptions> WithStandardInput(QuestionOptions question) {
  if (question.messages.empty() && !question.text.has_value()) {
    ASSIGN_OR_RETURN(question.text, ReadStandardInput());
  }
  return question;
}

}  // namespace

absl::Status Trace(const TraceOptions& options) {
  LocalModelOptions model_options = options.model;
  ASSIGN_OR_RETURN(model_options.folder, ResolveModelFolder(options.model.folder));
  ASSIGN_OR_RETURN(const QuestionOptions question, WithStandardInput(options.question));
  ASSIGN_OR_RETURN(const Conversation conversation, ReadQuestion(question));
  ASSIGN_OR_RETURN(const std::unique_ptr<LocalModel> model, LocalModel::Load(model_options));
  const int64_t vocabulary = model->spec().language.vocabulary;

  Logits logits;
  ReplyWatch watch;
  watch.last_prompt_logits = kPromptLogits;
  watch.logits = [&logits](int64_t position, absl::Span<const float> row) {
    logits.Add(position, row);
  };
  if (!options.force_tokens.empty()) {
    absl::StatusOr<std::vector<int32_t>> tokens = ReadTokens(options.force_tokens, vocabulary);
    if (!tokens.ok()) return Blame("--force-tokens", tokens.status());
    watch.forced_tokens = *std::move(tokens);
  }

  PictureRows rows(*model, options.reply.max_slices, options.reply.exif);
  LocalReply replying(*model);
  ASSIGN_OR_RETURN(const Prompt prompt, replying.Lay(conversation, options.reply, rows));
  const auto ignore = [](absl::string_view) { return absl::OkStatus(); };
  ASSIGN_OR_RETURN(const Reply reply,
                   replying.Run(conversation, options.reply, rows, ignore, &watch));

  SafetensorsWriter out;
  AddIds("input_ids", prompt.tokens, out);
  RETURN_IF_ERROR(AddRows(*model, prompt, conversation, rows, out));
  const int64_t shown = reply.prompt_tokens - logits.first;
  const int64_t steps = static_cast<int64_t>(reply.tokens.size());
  AddFloats("prompt_logits", logits.values.data(), Shape{shown, vocabulary}, out);
  const float* const greedy = logits.values.data() + (shown - 1) * vocabulary;
  AddFloats("greedy_logits", greedy, Shape{steps, vocabulary}, out);
  SamplingSettings settings = SamplingOf(options.reply, model->spec().generation);
  settings.stop_ids = model->prompts().stop_ids();
  ASSIGN_OR_RETURN(const std::vector<int32_t> chosen,
                   ChosenTokens(settings, reply, greedy, steps, vocabulary));
  AddIds("greedy_tokens", chosen, out);
  if (options.layers) {
    RETURN_IF_ERROR(TraceTower(*model, conversation.pictures, rows, out));
    RETURN_IF_ERROR(TraceDecoder(*model, prompt, conversation.pictures, rows, out));
  }
  return Blame("--out", out.Write(options.out));
}

}  // namespace minicpmv
