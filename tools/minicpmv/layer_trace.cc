#include "tools/minicpmv/layer_trace.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/status_macros.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kv/kv_cache.h"
#include "runtime/kv/page_table.h"
#include "runtime/media/patches.h"
#include "runtime/model/activation_copies.h"
#include "runtime/model/decoder.h"

namespace minicpmv {
namespace {

void AddCopies(const ActivationCopies& copies, SafetensorsWriter& out) {
  for (const auto& [name, values] : copies.all()) out.Add(name, values);
}

// PatchRows gives [patches, 3, side, side]; the original's processor gives [3, side, patches,
// side].
void AddPixels(const ModelSpec& spec, const Image& sub_image, SafetensorsWriter& out) {
  const int64_t side = spec.vision.patch_size;
  const int64_t patches = (sub_image.width / side) * (sub_image.height / side);
  std::vector<float> rows(static_cast<size_t>(patches * 3 * side * side));
  PatchRows(sub_image, static_cast<int>(side), spec.preprocess.mean, spec.preprocess.std,
            rows.data());
  std::vector<float> pixels(rows.size());
  size_t next = 0;
  for (int64_t line = 0; line < 3 * side; ++line) {  // channel and row in a patch
    for (int64_t patch = 0; patch < patches; ++patch) {
      for (int64_t x = 0; x < side; ++x)
        pixels[next++] = rows[static_cast<size_t>((patch * 3 * side + line) * side + x)];
    }
  }
  out.Add("pixels.0", ConstTensorView(pixels.data(), DType::kF32, Shape{3, side, side * patches}));
}

}  // namespace

absl::Status TraceTower(LocalModel& model, absl::Span<const Picture> pictures, PictureRows& rows,
                        SafetensorsWriter& out) {
  if (pictures.empty()) return absl::OkStatus();
  const ModelSpec& spec = model.spec();
  Bill ignored;
  ASSIGN_OR_RETURN(const std::vector<Image>* const sub_images, rows.Open(pictures, 0, ignored));
  AddPixels(spec, sub_images->front(), out);

  ASSIGN_OR_RETURN(VisionEncoder* const vision, model.Vision());
  ASSIGN_OR_RETURN(Kernels* const kernels, model.VisionKernels());
  const Shape shape = {spec.resampler.queries, spec.language.hidden};
  std::vector<float> encoded(static_cast<size_t>(shape.elements()));
  ActivationCopies copies(*kernels);
  const ActivationObserver observer = copies.observer();
  RETURN_IF_ERROR(vision->Encode(
      {&sub_images->front(), 1}, TensorView(encoded.data(), DType::kF32, shape), [](int64_t) {},
      &observer));
  AddCopies(copies, out);
  return absl::OkStatus();
}

absl::Status TraceDecoder(LocalModel& model, const Prompt& prompt,
                          absl::Span<const Picture> pictures, PictureRows& rows,
                          SafetensorsWriter& out) {
  const ModelSpec& spec = model.spec();
  const LanguageSpec& language = spec.language;
  const auto positions = static_cast<int32_t>(prompt.tokens.size());
  ASSIGN_OR_RETURN(Kernels* const kernels, model.VisionKernels());
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Decoder> decoder,
      Decoder::Load(model.checkpoint(), spec, model.first_device(), *kernels,
                    {.layers = {0, language.layers}, .max_rows = positions, .max_logit_rows = 1}));
  const CacheShape shape = {model.row_dtype(), static_cast<int>(language.kv_heads),
                            static_cast<int>(language.head_size)};
  const int64_t pages = PagesFor(positions);
  ASSIGN_OR_RETURN(const KvCache cache,
                   KvCache::Create(model.first_device(), shape, language.layers, pages));

  StepBatch batch;
  batch.tokens = prompt.tokens;
  for (int32_t i = 0; i < positions; ++i) batch.positions.push_back(i);
  batch.query_starts = {0, positions};
  for (int32_t i = 0; i < pages; ++i) batch.pages.push_back(i);
  batch.page_starts = {0, static_cast<int32_t>(pages)};
  Bill ignored;
  for (const Prompt::Span& span : prompt.spans) {
    ASSIGN_OR_RETURN(const ConstTensorView made,
                     rows.Encode(pictures, span.image, span.sub_image, ignored));
    batch.spans.push_back({span.first, made});
  }

  std::vector<float> hidden(static_cast<size_t>(positions * language.hidden));
  ActivationCopies copies(*kernels);
  const ActivationObserver observer = copies.observer();
  decoder->Forward(batch, cache.layers(),
                   TensorView(hidden.data(), DType::kF32, Shape{positions, language.hidden}),
                   TensorView(), &observer);
  RETURN_IF_ERROR(kernels->stream().Wait());
  AddCopies(copies, out);
  return absl::OkStatus();
}

}  // namespace minicpmv
