#include "tools/minicpmv/inspect.h"

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/status_macros.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/decoder.h"
#include "runtime/model/family.h"
#include "tools/minicpmv/model_folder.h"
#include "tools/minicpmv/output.h"

namespace minicpmv {
namespace {

// "vpm.encoder." of "vpm.encoder.layers.{}.mlp.fc1": the names of a part's tensors begin so.
absl::string_view Stem(absl::string_view name) { return name.substr(0, name.find('.') + 1); }

std::string Bytes(uint64_t bytes) {
  if (bytes >= 10'000'000'000) return absl::StrFormat("%.2f GB", static_cast<double>(bytes) / 1e9);
  if (bytes >= 10'000) return absl::StrFormat("%.1f MB", static_cast<double>(bytes) / 1e6);
  return absl::StrFormat("%d B", bytes);
}

std::string Sizes(const ModelSpec& spec) {
  const LanguageSpec& language = spec.language;
  const VisionSpec& vision = spec.vision;
  const PreprocessSpec& preprocess = spec.preprocess;
  return absl::StrCat(
      absl::StrFormat("family      %s\n", spec.family->name),
      absl::StrFormat("dtype       %s\n", NameOf(spec.dtype)),
      absl::StrFormat("decoder     %d layers, width %d, inner %d, heads %d on %d of %d, vocabulary "
                      "%d, context %d\n",
                      language.layers, language.hidden, language.intermediate, language.heads,
                      language.kv_heads, language.head_size, language.vocabulary,
                      language.max_positions),
      absl::StrFormat(
          "vision      %d layers, width %d, inner %d, heads %d, patch %d, position table %d x %d\n",
          vision.layers, vision.hidden, vision.intermediate, vision.heads, vision.patch_size,
          vision.table_side, vision.table_side),
      absl::StrFormat("resampler   %d queries, heads %d\n", spec.resampler.queries,
                      spec.resampler.heads),
      absl::StrFormat("pictures    sub-images of about %d x %d, up to %d slices\n",
                      preprocess.scale_resolution, preprocess.scale_resolution,
                      preprocess.max_slices),
      absl::StrFormat(
          "sampling    temperature %g, top-p %g, top-k %d, repetition penalty %g, new tokens %d\n",
          spec.generation.temperature, spec.generation.top_p, spec.generation.top_k,
          spec.generation.repetition_penalty, spec.generation.max_new_tokens));
}

std::string Memory(const Checkpoint& checkpoint, const ModelSpec& spec,
                   const DecoderBytes& decoder) {
  uint64_t layers = 0;
  for (const uint64_t layer : decoder.layers) layers += layer;
  const Family& family = *spec.family;
  uint64_t vision = 0, resampler = 0, rest = 0;
  for (const absl::string_view name : checkpoint.names()) {
    const absl::StatusOr<ConstTensorView> tensor = checkpoint.Find(name);
    if (!tensor.ok()) continue;
    if (absl::StartsWith(name, Stem(family.vision.patch))) {
      vision += tensor->bytes();
    } else if (absl::StartsWith(name, Stem(family.resampler.query))) {
      resampler += tensor->bytes();
    } else {
      rest += tensor->bytes();
    }
  }
  const LanguageSpec& language = spec.language;
  const uint64_t token =
      uint64_t{2} *
      static_cast<uint64_t>(language.layers * language.kv_heads * language.head_size) *
      SizeOf(spec.dtype);
  std::string text = "\nmemory\n";
  const auto line = [&](absl::string_view part, uint64_t bytes) {
    absl::StrAppendFormat(&text, "  %-26s %12s\n", part, Bytes(bytes));
  };
  line("embedding", decoder.embedding);
  line("decoder layers", layers);
  line(language.tied_lm_head ? "head (the embedding)" : "head", decoder.head);
  line("vision tower", vision);
  line("resampler", resampler);
  const uint64_t known = decoder.embedding + layers + (language.tied_lm_head ? 0 : decoder.head);
  if (rest > known) line("norms, biases and others", rest - known);
  line("all tensors", checkpoint.bytes());
  line("cache for a token", token);
  line("cache for a whole context", token * static_cast<uint64_t>(language.max_positions));
  line("rows of a sub-image",
       static_cast<uint64_t>(spec.resampler.queries * language.hidden) * SizeOf(spec.dtype));
  return text;
}

std::string Tensors(const Checkpoint& checkpoint) {
  const std::vector<absl::string_view> names = checkpoint.names();
  size_t width = 0;
  for (const absl::string_view name : names) width = std::max(width, name.size());
  std::string text = absl::StrFormat("\ntensors (%d)\n", names.size());
  for (const absl::string_view name : names) {
    absl::StrAppendFormat(&text, "  %-*s ", static_cast<int>(width), name);
    if (const absl::StatusOr<ConstTensorView> tensor = checkpoint.Find(name); tensor.ok()) {
      absl::StrAppend(&text, NameOf(tensor->dtype), " ", tensor->shape.ToString(), "\n");
    } else {
      absl::StrAppend(&text, tensor.status().message(), "\n");
    }
  }
  return text;
}

}  // namespace

absl::Status Inspect(const InspectOptions& options) {
  ASSIGN_OR_RETURN(const std::string folder, ResolveModelFolder(options.folder));
  ASSIGN_OR_RETURN(const ModelSpec spec, ReadModelSpec(folder));
  ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, OpenSafetensors(folder));
  ASSIGN_OR_RETURN(const DecoderBytes decoder, MeasureDecoder(*checkpoint, spec));
  return WriteOutput(absl::StrCat("model       ", folder, "\n", Sizes(spec),
                                  Memory(*checkpoint, spec, decoder), Tensors(*checkpoint)));
}

}  // namespace minicpmv
