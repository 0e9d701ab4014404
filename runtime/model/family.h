#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/base/json_file.h"
#include "runtime/tensor/dtype.h"

namespace minicpmv {

// Names of tensors in a Hugging Face checkpoint; "{}" is the layer.
struct LanguageNames {
  // Each has a ".weight" and, where the family says so, a ".bias".
  absl::string_view embedding, input_norm, post_attention_norm, q, k, v, o, gate, up, down, final_norm, lm_head;
};
struct VisionNames {
  absl::string_view patch, norm1, norm2, q, k, v, out, fc1, fc2, final_norm;  // each has a ".weight" and a ".bias"
  absl::string_view positions;                                                // whole name
};
struct ResamplerNames {
  absl::string_view out, norm_q, norm_kv, norm_post;       // each has a ".weight" and a ".bias"
  absl::string_view query, kv, in_weight, in_bias, proj;  // whole names
};

// Names of special tokens, and the plain text between them, that make a conversation a prompt.
struct PromptMarks {
  absl::string_view message_start, message_end;  // tokens
  absl::string_view after_role, after_message;   // text
  absl::string_view image_start, image_end, slice_start, slice_end, image_id_start, image_id_end, placeholder;  // tokens
  absl::string_view default_system;              // text: the system message of a conversation that has none
};

// What a reply is drawn with where nobody says otherwise.
struct GenerationDefaults {
  double temperature = 1;
  double top_p = 1;
  int top_k = 0;  // 0: off
  double repetition_penalty = 1;
  int64_t max_new_tokens = 0;
};

// What one member of MiniCPM-V has in common with nobody else, as data.
struct Family {
  absl::string_view name;   // "MiniCPM-V 2.6"
  double version = 0;       // config.json's "version"
  LanguageNames language;
  VisionNames vision;
  ResamplerNames resampler;
  PromptMarks marks;
  std::array<absl::string_view, 2> stop_tokens;
  bool qkv_bias = false;
  int64_t resampler_head_size = 0;
  int64_t max_prompt_tokens = 0;  // the original's max_inp_length
  GenerationDefaults generation;
};

// Every family this build knows.
absl::Span<const Family> Families();

struct LanguageSpec {
  int64_t hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0, head_size = 0;
  int64_t vocabulary = 0, max_positions = 0;
  float rope_theta = 0, norm_epsilon = 0;
  bool tied_lm_head = false;
};

struct VisionSpec {
  int64_t hidden = 0, intermediate = 0, layers = 0, heads = 0;
  int64_t patch_size = 0;
  int64_t table_side = 0;  // the position table is [table_side^2, hidden]
  float norm_epsilon = 0;
};

struct ResamplerSpec {
  int64_t queries = 0, heads = 0;
  float norm_epsilon = 0;
};

struct PreprocessSpec {
  int scale_resolution = 0, max_slices = 0;
  bool slice_mode = true, image_ids = true;
  std::array<float, 3> mean = {}, std = {};
};

// All that config.json, preprocessor_config.json and generation_config.json say of one model: numbers and names, no bytes.
struct ModelSpec {
  const Family* family = nullptr;  // static
  DType dtype = DType::kF32;       // what the checkpoint says its weights are
  LanguageSpec language;
  VisionSpec vision;
  ResamplerSpec resampler;
  PreprocessSpec preprocess;
  GenerationDefaults generation;
};

// Reads a Hugging Face folder. NOT_FOUND: the folder or config.json. UNIMPLEMENTED: a family that this build does not know.
// INVALID_ARGUMENT: a field that is missing, no number, or out of bounds; the words name file and field.
absl::StatusOr<ModelSpec> ReadModelSpec(const std::string& folder);
// The same from files that have been read; without generation_config.json the family's defaults hold.
absl::StatusOr<ModelSpec> ParseModelSpec(const JsonObject& config, const JsonObject& preprocessor,
                                         const std::optional<JsonObject>& generation);

}  // namespace minicpmv
