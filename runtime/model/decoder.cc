#include "runtime/model/decoder.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/weight_loader.h"

namespace minicpmv {

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Load(const Checkpoint& checkpoint, const ModelSpec& spec, Device& device,
                                                       Kernels& kernels, const Options& options) {
  const LayerRange layers = options.layers;
  CHECK(0 <= layers.first && layers.first < layers.last && layers.last <= spec.language.layers)
      << layers.first << "-" << layers.last << " of " << spec.language.layers;
  auto decoder = std::unique_ptr<Decoder>(new Decoder(spec, kernels, options));
  RETURN_IF_ERROR(decoder->LoadWeights(checkpoint));
  RETURN_IF_ERROR(decoder->MakeRope());
  RETURN_IF_ERROR(decoder->AllocateScratch(device, options));
  return decoder;
}

absl::Status Decoder::LoadWeights(const Checkpoint& checkpoint) {
  const LanguageSpec& language = spec_.language;
  const LanguageNames& names = spec_.family->language;
  const WeightLoader loader(checkpoint, kernels_);
  const int64_t hidden = language.hidden;
  const int64_t q_width = language.heads * language.head_size;
  const int64_t kv_width = language.kv_heads * language.head_size;
  for (int64_t i = layers_.first; i < layers_.last; ++i) {
    const auto matrix = [&](absl::string_view part, int64_t rows, int64_t columns) {
      return loader.Matrix(WeightLoader::WeightOf(part), i, rows, columns);
    };
    Layer layer;
    ASSIGN_OR_RETURN(layer.input_norm, loader.Vector(WeightLoader::WeightOf(names.input_norm), i, hidden));
    ASSIGN_OR_RETURN(layer.q, matrix(names.q, q_width, hidden));
    ASSIGN_OR_RETURN(layer.k, matrix(names.k, kv_width, hidden));
    ASSIGN_OR_RETURN(layer.v, matrix(names.v, kv_width, hidden));
    if (spec_.family->qkv_bias) {
      ASSIGN_OR_RETURN(layer.q_bias, loader.Vector(WeightLoader::BiasOf(names.q), i, q_width));
      ASSIGN_OR_RETURN(layer.k_bias, loader.Vector(WeightLoader::BiasOf(names.k), i, kv_width));
      ASSIGN_OR_RETURN(layer.v_bias, loader.Vector(WeightLoader::BiasOf(names.v), i, kv_width));
    }
    ASSIGN_OR_RETURN(layer.o, matrix(names.o, hidden, q_width));
    ASSIGN_OR_RETURN(layer.post_attention_norm,
                     loader.Vector(WeightLoader::WeightOf(names.post_attention_norm), i, hidden));
    ASSIGN_OR_RETURN(layer.gate, matrix(names.gate, language.intermediate, hidden));
    ASSIGN_OR_RETURN(layer.up, matrix(names.up, language.intermediate, hidden));
    ASSIGN_OR_RETURN(layer.down, matrix(names.down, hidden, language.intermediate));
    weights_.push_back(std::move(layer));
  }
  if (is_first()) {
    ASSIGN_OR_RETURN(embedding_, loader.Matrix(WeightLoader::WeightOf(names.embedding), 0, language.vocabulary, hidden));
  }
  if (has_head_) {
    const absl::string_view head = language.tied_lm_head ? names.embedding : names.lm_head;
    ASSIGN_OR_RETURN(final_norm_, loader.Vector(WeightLoader::WeightOf(names.final_norm), 0, hidden));
    ASSIGN_OR_RETURN(lm_head_, loader.Matrix(WeightLoader::WeightOf(head), 0, language.vocabulary, hidden));
  }
  return absl::OkStatus();
}

// As the original builds them: frequencies, products and functions in float32.
absl::Status Decoder::MakeRope() {
  const int64_t positions = spec_.language.max_positions, half = spec_.language.head_size / 2;
  angles_.resize(static_cast<size_t>(2 * positions * half));
  float* cosines = angles_.data();
  float* sines = cosines + positions * half;
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(spec_.language.head_size);
    const float frequency = 1.0f / std::pow(spec_.language.rope_theta, exponent);
    for (int64_t p = 0; p < positions; ++p) {
      const float angle = static_cast<float>(p) * frequency;
      cosines[p * half + i] = std::cos(angle);
      sines[p * half + i] = std::sin(angle);
    }
  }
  const Shape shape = {positions, half};
  ASSIGN_OR_RETURN(cosines_, kernels_.Prepare(ConstTensorView(cosines, DType::kF32, shape)));
  ASSIGN_OR_RETURN(sines_, kernels_.Prepare(ConstTensorView(sines, DType::kF32, shape)));
  return absl::OkStatus();
}

absl::Status Decoder::AllocateScratch(Device& device, const Options& options) {
  const LanguageSpec& language = spec_.language;
  const int64_t rows = options.max_rows;
  const int64_t q_width = language.heads * language.head_size;
  const int64_t kv_width = language.kv_heads * language.head_size;
  const auto add = [&](TensorView& view, int64_t count, int64_t width) -> absl::Status {
    ASSIGN_OR_RETURN(view, scratch_.Add(device, Shape{count, width}));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(add(normed_, rows, language.hidden));
  RETURN_IF_ERROR(add(q_, rows, q_width));
  RETURN_IF_ERROR(add(k_, rows, kv_width));
  RETURN_IF_ERROR(add(v_, rows, kv_width));
  RETURN_IF_ERROR(add(attended_, rows, q_width));
  RETURN_IF_ERROR(add(delta_, rows, language.hidden));
  RETURN_IF_ERROR(add(gate_, rows, language.intermediate));
  RETURN_IF_ERROR(add(up_, rows, language.intermediate));
  if (has_head_) RETURN_IF_ERROR(add(last_, options.max_logit_rows, language.hidden));
  return absl::OkStatus();
}

void Decoder::Forward(const StepBatch& batch, absl::Span<const CacheLayer> cache, TensorView hidden, TensorView logits,
                      const ActivationObserver* observer, const LayerHook* layer_queued) {
  CHECK_EQ(cache.size(), weights_.size());
  CHECK_LE(batch.rows(), normed_.rows());
  CHECK_EQ(hidden.rows(), batch.rows());
  if (is_first()) {
    kernels_.GatherRows(embedding_.view, batch.tokens, hidden);
    if (!batch.spans.empty()) kernels_.ScatterRows(batch.spans, hidden);
  }
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (observer != nullptr) (*observer)(absl::StrFormat("hidden.%02d", layers_.first + static_cast<int64_t>(i)), hidden);
    RunLayer(weights_[i], batch, cache[i], hidden);
    if (layer_queued != nullptr) (*layer_queued)(layers_.first + static_cast<int64_t>(i));
  }
  if (!has_head_) return;
  const float epsilon = spec_.language.norm_epsilon;
  if (observer != nullptr) {
    const TensorView normed = normed_.Rows(0, batch.rows());
    kernels_.RmsNorm(hidden, final_norm_, epsilon, normed);
    (*observer)(absl::StrFormat("hidden.%02d", layers_.last), normed);
  }
  if (batch.logit_rows.empty()) return;
  const TensorView last = last_.Rows(0, static_cast<int64_t>(batch.logit_rows.size()));
  kernels_.GatherRows(hidden, batch.logit_rows, last);
  kernels_.RmsNorm(last, final_norm_, epsilon, last);
  kernels_.MatMul(last, lm_head_, nullptr, logits);
}

void Decoder::RunLayer(const Layer& layer, const StepBatch& batch, const CacheLayer& cache, TensorView hidden) {
  const int64_t rows = batch.rows();
  const float epsilon = spec_.language.norm_epsilon;
  const TensorView normed = normed_.Rows(0, rows), q = q_.Rows(0, rows), k = k_.Rows(0, rows), v = v_.Rows(0, rows);
  const TensorView attended = attended_.Rows(0, rows), delta = delta_.Rows(0, rows);
  const TensorView gate = gate_.Rows(0, rows), up = up_.Rows(0, rows);
  const auto bias = [&](const Weight& weight) { return spec_.family->qkv_bias ? &weight : nullptr; };

  kernels_.RmsNorm(hidden, layer.input_norm, epsilon, normed);
  kernels_.MatMulMany(normed, {{&layer.q, bias(layer.q_bias), q},
                               {&layer.k, bias(layer.k_bias), k},
                               {&layer.v, bias(layer.v_bias), v}});
  kernels_.RopeStore(q, k, v, RopeTable{cosines_.view, sines_.view}, batch, cache);
  kernels_.PagedAttention(q, batch, cache, attended);
  kernels_.MatMul(attended, layer.o, nullptr, delta);
  kernels_.AddRmsNorm(hidden, delta, layer.post_attention_norm, epsilon, normed);
  kernels_.MatMulMany(normed, {{&layer.gate, nullptr, gate}, {&layer.up, nullptr, up}});
  kernels_.SiluMul(gate, up);
  kernels_.MatMul(gate, layer.down, nullptr, delta);
  kernels_.Add(hidden, delta);
}

absl::StatusOr<DecoderBytes> MeasureDecoder(const Checkpoint& checkpoint, const ModelSpec& spec) {
  const LanguageSpec& language = spec.language;
  const LanguageNames& names = spec.family->language;
  const int64_t q_width = language.heads * language.head_size;
  const int64_t kv_width = language.kv_heads * language.head_size;
  struct Part {
    absl::string_view name;
    int64_t rows, columns;
  };
  const Part parts[] = {{names.q, q_width, language.hidden},          {names.k, kv_width, language.hidden},
                        {names.v, kv_width, language.hidden},         {names.o, language.hidden, q_width},
                        {names.gate, language.intermediate, language.hidden}, {names.up, language.intermediate, language.hidden},
                        {names.down, language.hidden, language.intermediate}};
  const auto bytes_of = [&](const Part& part, int64_t layer) -> absl::StatusOr<uint64_t> {
    ASSIGN_OR_RETURN(const ConstTensorView tensor,
                     FindTensor(checkpoint, WeightLoader::WeightOf(part.name), layer, part.rows, part.columns));
    return tensor.bytes();
  };
  DecoderBytes bytes;
  for (int64_t i = 0; i < language.layers; ++i) {
    uint64_t sum = 0;
    for (const Part& part : parts) {
      ASSIGN_OR_RETURN(const uint64_t more, bytes_of(part, i));
      sum += more;
    }
    bytes.layers.push_back(sum);
  }
  ASSIGN_OR_RETURN(bytes.embedding, bytes_of({names.embedding, language.vocabulary, language.hidden}, 0));
  const absl::string_view head = language.tied_lm_head ? names.embedding : names.lm_head;
  ASSIGN_OR_RETURN(bytes.head, bytes_of({head, language.vocabulary, language.hidden}, 0));
  return bytes;
}

}  // namespace minicpmv
