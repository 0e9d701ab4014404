#pragma once

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/device/cpu_device.h"
#include "runtime/kernels/cpu/cpu_kernels.h"
#include "runtime/media/image.h"
#include "runtime/media/slicing.h"
#include "runtime/model/activation_copies.h"
#include "runtime/model/decoder.h"
#include "runtime/model/prompt.h"
#include "runtime/model/vision_encoder.h"
#include "tests/reference/reference_kernels.h"

namespace minicpmv {

inline std::string TestData(absl::string_view path) { return absl::StrCat(MINICPMV_SOURCE_DIR, "/tests/testdata/", path); }

inline nlohmann::json ReadJson(const std::string& path) {
  std::ifstream file(path);
  CHECK(file.good()) << path;
  return nlohmann::json::parse(file);
}

// A value that must be there; the test ends with the status otherwise.
template <typename T>
T Must(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return *std::move(value);
}

inline std::unique_ptr<Kernels> KernelsNamed(const std::string& name, CpuDevice& device) {
  if (name == "reference") return std::make_unique<ReferenceKernels>(device);
  return Must(MakeCpuKernels(device));
}

// The largest difference as a share of the largest magnitude of what is wanted.
inline double Deviation(ConstTensorView got, ConstTensorView want) {
  CHECK(got.shape.elements() == want.shape.elements()) << got.shape.ToString() << " against " << want.shape.ToString();
  const float *a = got.as<float>(), *b = want.as<float>();
  double worst = 0, largest = 0;
  for (int64_t i = 0; i < want.shape.elements(); ++i) {
    const double difference = std::abs(double{a[i]} - b[i]);
    if (!(difference <= worst)) worst = difference;  // NaN is the worst of all
    largest = std::max(largest, std::abs(double{b[i]}));
  }
  return worst / largest;
}

// A whole model over one Kernels, run step by step without an engine: one sequence whose pages lie in order.
class PlainModel {
 public:
  PlainModel(const std::string& folder, const std::string& kernels_name, int threads, DType cache_dtype, int max_positions)
      : spec(Must(ReadModelSpec(folder))),
        checkpoint(Must(OpenSafetensors(folder))),
        tokenizer(Must(Tokenizer::Load(folder))),
        prompts(Must(PromptBuilder::Create(spec, *tokenizer))),
        device("cpu:0", threads),
        kernels(KernelsNamed(kernels_name, device)),
        vision(Must(VisionEncoder::Load(*checkpoint, spec, device, *kernels))),
        decoder(Must(Decoder::Load(*checkpoint, spec, device, *kernels,
                                   {.layers = {0, spec.language.layers}, .max_rows = max_positions, .max_logit_rows = 8}))),
        rows_dtype(cache_dtype) {
    for (int64_t i = 0; i < spec.language.layers; ++i) {
      CacheLayer layer = {nullptr, cache_dtype, (max_positions + kPageSize - 1) / kPageSize,
                          static_cast<int>(spec.language.kv_heads), static_cast<int>(spec.language.head_size)};
      cache_bytes.push_back(Must(device.Allocate(layer.page_bytes() * static_cast<size_t>(layer.pages))));
      layer.data = cache_bytes.back()->data();
      cache.push_back(layer);
    }
  }

  // Embedding rows of all sub-images, in the rows' dtype.
  std::vector<uint8_t> Encode(const std::vector<Image>& sub_images, ActivationCopies* copies = nullptr) {
    const Shape shape = {static_cast<int64_t>(sub_images.size()) * vision->queries(), spec.language.hidden};
    std::vector<uint8_t> bytes(static_cast<size_t>(shape.elements()) * SizeOf(rows_dtype));
    if (sub_images.empty()) return bytes;
    auto ignore = [](int64_t) {};
    std::optional<ActivationObserver> observer;
    if (copies != nullptr) observer.emplace(copies->observer());
    const TensorView rows(bytes.data(), rows_dtype, shape);
    CHECK(vision->Encode(sub_images, rows, ignore, copies != nullptr ? &*observer : nullptr).ok());
    return bytes;
  }

  // Runs tokens at positions first ..., returns the logits of the last `logit_rows` of them, one row after the other.
  std::vector<float> Step(const std::vector<int32_t>& tokens, int first, const std::vector<StepBatch::Span>& spans,
                          int logit_rows, ActivationCopies* copies = nullptr) {
    const int rows = static_cast<int>(tokens.size());
    StepBatch batch;
    batch.tokens = tokens;
    for (int i = 0; i < rows; ++i) batch.positions.push_back(first + i);
    batch.query_starts = {0, rows};
    for (int page = 0; page * kPageSize < first + rows; ++page) batch.pages.push_back(page);
    batch.page_starts = {0, static_cast<int32_t>(batch.pages.size())};
    for (int i = rows - logit_rows; i < rows; ++i) batch.logit_rows.push_back(i);
    batch.spans = spans;
    std::vector<float> hidden(static_cast<size_t>(rows * spec.language.hidden));
    std::vector<float> logits(static_cast<size_t>(logit_rows * spec.language.vocabulary));
    const TensorView hidden_view(hidden.data(), DType::kF32, Shape{rows, spec.language.hidden});
    const TensorView logits_view(logits.data(), DType::kF32, Shape{logit_rows, spec.language.vocabulary});
    std::optional<ActivationObserver> observer;
    if (copies != nullptr) observer.emplace(copies->observer());
    decoder->Forward(batch, cache, hidden_view, logits_view, copies != nullptr ? &*observer : nullptr);
    CHECK(kernels->stream().Wait().ok());
    return logits;
  }

  const ModelSpec spec;
  const std::unique_ptr<Checkpoint> checkpoint;
  const std::unique_ptr<Tokenizer> tokenizer;
  const PromptBuilder prompts;
  CpuDevice device;
  const std::unique_ptr<Kernels> kernels;
  const std::unique_ptr<VisionEncoder> vision;
  const std::unique_ptr<Decoder> decoder;
  const DType rows_dtype;
  std::vector<std::unique_ptr<Buffer>> cache_bytes;
  std::vector<CacheLayer> cache;
};

}  // namespace minicpmv
