#include <cmath>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/json_file.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/family.h"

namespace minicpmv {
namespace {

constexpr size_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kMaxWidth = 1 << 17;
constexpr int64_t kMaxLayers = 1 << 10;
constexpr int64_t kMaxVocabulary = 1 << 24;
constexpr int64_t kMaxPositions = 1 << 22;
constexpr int64_t kMaxAngles = int64_t{1} << 26;  // entries of the table of rotary angles

absl::StatusOr<const Family*> FindFamily(const JsonObject& config) {
  ASSIGN_OR_RETURN(const std::string model_type, config.String("model_type"));
  if (model_type != "minicpmv") {
    return absl::UnimplementedError(
        absl::StrCat(config.file(), ": \"model_type\" is ", Quoted(model_type), "; this build reads \"minicpmv\""));
  }
  // Newer configurations say 2.6, older ones "2.5".
  std::string version = "missing";
  if (absl::StatusOr<std::optional<double>> number = config.OptionalNumber("version"); number.ok()) {
    if (number->has_value()) version = absl::StrCat(**number);
  } else {
    ASSIGN_OR_RETURN(version, config.String("version"));
  }
  std::string known;
  for (const Family& family : Families()) {
    if (version == absl::StrCat(family.version)) return &family;
    absl::StrAppend(&known, known.empty() ? "" : ", ", family.version);
  }
  return absl::UnimplementedError(
      absl::StrCat(config.file(), ": \"version\" is ", Quoted(version), "; this build reads ", known));
}

// What would change the numbers and is not computed here is refused, not ignored.
absl::Status RefuseWhatIsNotComputed(const JsonObject& config) {
  const auto unimplemented = [&](absl::string_view key, absl::string_view words) {
    return absl::UnimplementedError(absl::StrCat(config.file(), ": \"", key, "\" ", words));
  };
  for (absl::string_view key : {"rope_scaling", "quantization_config"}) {
    if (config.Has(key)) return unimplemented(key, "is set; this build does not compute it");
  }
  ASSIGN_OR_RETURN(const std::optional<bool> sliding, config.OptionalBool("use_sliding_window"));
  if (sliding.value_or(false)) return unimplemented("use_sliding_window", "is true; this build does not compute it");
  ASSIGN_OR_RETURN(const std::optional<std::string> activation, config.OptionalString("hidden_act"));
  if (activation.value_or("silu") != "silu") return unimplemented("hidden_act", "is not \"silu\"");
  return absl::OkStatus();
}

absl::StatusOr<float> PositiveFloat(const JsonObject& config, absl::string_view key, double otherwise) {
  ASSIGN_OR_RETURN(const std::optional<double> value, config.OptionalNumber(key));
  const float narrowed = static_cast<float>(value.value_or(otherwise));
  if (!(narrowed > 0) || !std::isfinite(narrowed)) return config.Error(key, "is not a positive float32");
  return narrowed;
}

absl::StatusOr<LanguageSpec> ReadLanguage(const JsonObject& config) {
  LanguageSpec spec;
  ASSIGN_OR_RETURN(spec.hidden, config.Int("hidden_size", 1, kMaxWidth));
  ASSIGN_OR_RETURN(spec.intermediate, config.Int("intermediate_size", 1, kMaxWidth * 8));
  ASSIGN_OR_RETURN(spec.layers, config.Int("num_hidden_layers", 1, kMaxLayers));
  ASSIGN_OR_RETURN(spec.heads, config.Int("num_attention_heads", 1, kMaxWidth));
  ASSIGN_OR_RETURN(const std::optional<int64_t> kv_heads, config.OptionalInt("num_key_value_heads", 1, kMaxWidth));
  spec.kv_heads = kv_heads.value_or(spec.heads);
  ASSIGN_OR_RETURN(spec.vocabulary, config.Int("vocab_size", 1, kMaxVocabulary));
  ASSIGN_OR_RETURN(spec.max_positions, config.Int("max_position_embeddings", 2, kMaxPositions));
  ASSIGN_OR_RETURN(spec.rope_theta, PositiveFloat(config, "rope_theta", 10000));
  ASSIGN_OR_RETURN(spec.norm_epsilon, PositiveFloat(config, "rms_norm_eps", 1e-6));
  ASSIGN_OR_RETURN(const std::optional<bool> tied, config.OptionalBool("tie_word_embeddings"));
  spec.tied_lm_head = tied.value_or(false);
  if (spec.hidden % spec.heads != 0) return config.Error("num_attention_heads", "does not divide \"hidden_size\"");
  if (spec.heads % spec.kv_heads != 0) {
    return config.Error("num_key_value_heads", "does not divide \"num_attention_heads\"");
  }
  spec.head_size = spec.hidden / spec.heads;
  if (spec.head_size % 2 != 0) return config.Error("num_attention_heads", "leaves heads of an odd size");
  if (spec.max_positions * spec.head_size > kMaxAngles) {
    return config.Error("max_position_embeddings", absl::StrCat("times the head size is over ", kMaxAngles));
  }
  return spec;
}

absl::StatusOr<VisionSpec> ReadVision(const JsonObject& config) {
  ASSIGN_OR_RETURN(const JsonObject vision, config.Object("vision_config"));
  VisionSpec spec;
  ASSIGN_OR_RETURN(spec.hidden, vision.Int("hidden_size", 1, kMaxWidth));
  ASSIGN_OR_RETURN(spec.intermediate, vision.Int("intermediate_size", 1, kMaxWidth * 8));
  ASSIGN_OR_RETURN(spec.layers, vision.Int("num_hidden_layers", 1, kMaxLayers));
  ASSIGN_OR_RETURN(spec.heads, vision.Int("num_attention_heads", 1, kMaxWidth));
  ASSIGN_OR_RETURN(spec.patch_size, vision.Int("patch_size", 1, 256));
  ASSIGN_OR_RETURN(const int64_t image_size, vision.Int("image_size", 1, 1 << 16));
  ASSIGN_OR_RETURN(spec.norm_epsilon, PositiveFloat(vision, "layer_norm_eps", 1e-6));
  RETURN_IF_ERROR(vision.OptionalInt("num_channels", 3, 3).status());
  ASSIGN_OR_RETURN(const std::optional<std::string> activation, vision.OptionalString("hidden_act"));
  if (activation.value_or("gelu_pytorch_tanh") != "gelu_pytorch_tanh") {
    return absl::UnimplementedError(absl::StrCat(config.file(), ": \"vision_config.hidden_act\" is not computed"));
  }
  if (spec.hidden % spec.heads != 0) return vision.Error("num_attention_heads", "does not divide \"hidden_size\"");
  spec.table_side = image_size / spec.patch_size;
  if (spec.table_side < 1) return vision.Error("image_size", "is less than one patch");
  // The original's own default drops the last layer, so a configuration that wants all of them says so.
  ASSIGN_OR_RETURN(const std::optional<bool> drop_last, config.OptionalBool("drop_vision_last_layer"));
  if (drop_last.value_or(true)) {
    if (--spec.layers == 0) return config.Error("drop_vision_last_layer", "leaves the tower no layer");
  }
  return spec;
}

absl::StatusOr<PreprocessSpec> ReadPreprocess(const JsonObject& config, const JsonObject& preprocessor,
                                              const VisionSpec& vision, const ResamplerSpec& resampler) {
  PreprocessSpec spec;
  ASSIGN_OR_RETURN(const int64_t scale, preprocessor.Int("scale_resolution", vision.patch_size, 1 << 14));
  ASSIGN_OR_RETURN(const int64_t slices, preprocessor.Int("max_slice_nums", 1, 1 << 10));
  ASSIGN_OR_RETURN(const int64_t patch, preprocessor.Int("patch_size", 1, 256));
  ASSIGN_OR_RETURN(const int64_t queries, preprocessor.Int("image_feature_size", 1, 1 << 16));
  ASSIGN_OR_RETURN(spec.slice_mode, preprocessor.Bool("slice_mode"));
  ASSIGN_OR_RETURN(spec.image_ids, preprocessor.Bool("use_image_id"));
  spec.scale_resolution = static_cast<int>(scale);
  spec.max_slices = static_cast<int>(slices);

  // The original asserts that both files agree.
  if (patch != vision.patch_size) return preprocessor.Error("patch_size", "differs from config.json");
  if (queries != resampler.queries) return preprocessor.Error("image_feature_size", "differs from config.json's query_num");
  ASSIGN_OR_RETURN(const std::optional<bool> image_ids, config.OptionalBool("use_image_id"));
  if (image_ids.value_or(spec.image_ids) != spec.image_ids) return preprocessor.Error("use_image_id", "differs from config.json");
  ASSIGN_OR_RETURN(const std::optional<bool> slice_mode, config.OptionalBool("slice_mode"));
  if (slice_mode.value_or(spec.slice_mode) != spec.slice_mode) return preprocessor.Error("slice_mode", "differs from config.json");
  ASSIGN_OR_RETURN(const std::optional<JsonObject> slicing, config.OptionalObject("slice_config"));
  if (slicing.has_value()) {
    ASSIGN_OR_RETURN(const std::optional<int64_t> also, slicing->OptionalInt("max_slice_nums", 1, 1 << 10));
    if (also.value_or(slices) != slices) return preprocessor.Error("max_slice_nums", "differs from config.json");
  }

  struct Triple {
    absl::string_view key;
    std::array<float, 3>& out;
  };
  for (const Triple& triple : {Triple{"norm_mean", spec.mean}, Triple{"norm_std", spec.std}}) {
    ASSIGN_OR_RETURN(const std::vector<double> values, preprocessor.NumberList(triple.key));
    if (values.size() != 3) return preprocessor.Error(triple.key, "is not three numbers");
    for (int i = 0; i < 3; ++i) triple.out[i] = static_cast<float>(values[i]);
  }
  for (const float value : spec.std) {
    if (!(value > 0) || !std::isfinite(value)) return preprocessor.Error("norm_std", "holds a number that is not positive");
  }
  for (const float value : spec.mean) {
    if (!std::isfinite(value)) return preprocessor.Error("norm_mean", "holds a number beyond float32");
  }
  return spec;
}

absl::StatusOr<GenerationDefaults> ReadGeneration(const std::optional<JsonObject>& config, const GenerationDefaults& family) {
  GenerationDefaults defaults = family;
  if (!config.has_value()) return defaults;
  const auto number = [&](absl::string_view key, double& out, double min, double max) -> absl::Status {
    ASSIGN_OR_RETURN(const std::optional<double> value, config->OptionalNumber(key));
    if (value.has_value() && !(*value > min && *value <= max)) {
      return config->Error(key, absl::StrCat("is not in (", min, ", ", max, "]"));
    }
    out = value.value_or(out);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(number("temperature", defaults.temperature, 0, 100));
  RETURN_IF_ERROR(number("top_p", defaults.top_p, 0, 1));
  RETURN_IF_ERROR(number("repetition_penalty", defaults.repetition_penalty, 0, 100));
  ASSIGN_OR_RETURN(const std::optional<int64_t> top_k, config->OptionalInt("top_k", 0, kMaxVocabulary));
  defaults.top_k = static_cast<int>(top_k.value_or(defaults.top_k));
  ASSIGN_OR_RETURN(const std::optional<int64_t> most, config->OptionalInt("max_new_tokens", 1, kMaxPositions));
  defaults.max_new_tokens = most.value_or(defaults.max_new_tokens);
  return defaults;
}

absl::StatusOr<DType> ReadDType(const JsonObject& config) {
  ASSIGN_OR_RETURN(const std::optional<std::string> name, config.OptionalString("torch_dtype"));
  if (!name.has_value() || *name == "float32") return DType::kF32;
  if (*name == "bfloat16") return DType::kBF16;
  if (*name == "float16") return DType::kF16;
  return config.Error("torch_dtype", absl::StrCat("is ", Quoted(*name), ", not bfloat16, float16 or float32"));
}

}  // namespace

absl::StatusOr<ModelSpec> ParseModelSpec(const JsonObject& config, const JsonObject& preprocessor,
                                         const std::optional<JsonObject>& generation) {
  ModelSpec spec;
  ASSIGN_OR_RETURN(spec.family, FindFamily(config));
  RETURN_IF_ERROR(RefuseWhatIsNotComputed(config));
  ASSIGN_OR_RETURN(spec.dtype, ReadDType(config));
  ASSIGN_OR_RETURN(spec.language, ReadLanguage(config));
  ASSIGN_OR_RETURN(spec.vision, ReadVision(config));

  ASSIGN_OR_RETURN(const std::optional<int64_t> queries, config.OptionalInt("query_num", 1, 1 << 16));
  spec.resampler.queries = queries.value_or(64);
  spec.resampler.norm_epsilon = 1e-6f;
  const int64_t head_size = spec.family->resampler_head_size;
  if (spec.language.hidden % head_size != 0) {
    return config.Error("hidden_size", absl::StrCat("is no multiple of the resampler's head size, ", head_size));
  }
  spec.resampler.heads = spec.language.hidden / head_size;

  ASSIGN_OR_RETURN(spec.preprocess, ReadPreprocess(config, preprocessor, spec.vision, spec.resampler));
  ASSIGN_OR_RETURN(spec.generation, ReadGeneration(generation, spec.family->generation));
  return spec;
}

absl::StatusOr<ModelSpec> ReadModelSpec(const std::string& folder) {
  const auto read = [&](absl::string_view name) {
    return JsonObject::Read(absl::StrCat(folder, "/", name), kMaxConfigBytes);
  };
  ASSIGN_OR_RETURN(const JsonObject config, read("config.json"));
  RETURN_IF_ERROR(FindFamily(config).status());  // before what other families may not have
  ASSIGN_OR_RETURN(const JsonObject preprocessor, read("preprocessor_config.json"));
  absl::StatusOr<JsonObject> generation = read("generation_config.json");
  if (absl::IsNotFound(generation.status())) return ParseModelSpec(config, preprocessor, std::nullopt);
  RETURN_IF_ERROR(generation.status());
  return ParseModelSpec(config, preprocessor, *std::move(generation));
}

}  // namespace minicpmv
