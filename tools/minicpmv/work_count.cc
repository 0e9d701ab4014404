#include "tools/minicpmv/work_count.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"

namespace minicpmv {

absl::StatusOr<double> DecodeStepBytes(const Checkpoint& checkpoint, const ModelSpec& spec,
                                       DType cache, double positions) {
  ASSIGN_OR_RETURN(const DecoderBytes bytes, MeasureDecoder(checkpoint, spec));
  double sum = static_cast<double>(bytes.head);
  for (const uint64_t layer : bytes.layers) sum += static_cast<double>(layer);
  const LanguageSpec& language = spec.language;
  const auto position =
      static_cast<double>(2 * language.layers * language.kv_heads * language.head_size) *
      static_cast<double>(SizeOf(cache));
  return sum + positions * position;
}

double PrefillFlops(const ModelSpec& spec, double tokens) {
  const LanguageSpec& language = spec.language;
  const auto hidden = static_cast<double>(language.hidden);
  const auto q = static_cast<double>(language.heads * language.head_size);
  const auto kv = static_cast<double>(language.kv_heads * language.head_size);
  const double products =
      hidden * (2 * q + 2 * kv) + 3 * hidden * static_cast<double>(language.intermediate);
  const double pairs =
      tokens * (tokens + 1) / 2;  // of a query and a key: a score and a share of the value each
  return static_cast<double>(language.layers) * (2 * tokens * products + 4 * pairs * q);
}

double VisionFlops(const ModelSpec& spec, double patches) {
  const auto width = static_cast<double>(spec.vision.hidden);
  const auto inner = static_cast<double>(spec.vision.intermediate);
  const auto patch = static_cast<double>(3 * spec.vision.patch_size * spec.vision.patch_size);
  const double layer =
      2 * patches * (4 * width * width + 2 * width * inner) + 4 * patches * patches * width;
  const double tower =
      2 * patches * patch * width + static_cast<double>(spec.vision.layers) * layer;

  const auto hidden = static_cast<double>(spec.language.hidden);
  const auto queries = static_cast<double>(spec.resampler.queries);
  const double keys_and_values = 2 * patches * (width * hidden + 2 * hidden * hidden);
  return tower + keys_and_values + 4 * queries * patches * hidden + 4 * queries * hidden * hidden;
}

absl::Span<const uint8_t> LongestMappedRun(const Checkpoint& checkpoint, uint64_t limit) {
  // Tensors that lie this near to each other lie in one file: mappings begin at pages of their own.
  constexpr size_t kGap = 64;
  std::vector<absl::Span<const uint8_t>> tensors;
  for (const absl::string_view name : checkpoint.names()) {
    const absl::StatusOr<ConstTensorView> tensor = checkpoint.Find(name);
    if (tensor.ok()) {
      tensors.emplace_back(static_cast<const uint8_t*>(tensor->data), tensor->bytes());
    }
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.data() < b.data(); });
  absl::Span<const uint8_t> longest, run;
  for (const absl::Span<const uint8_t>& tensor : tensors) {
    const bool joins = !run.empty() && tensor.data() <= run.data() + run.size() + kGap;
    run = joins ? absl::MakeConstSpan(run.data(), tensor.data() + tensor.size()) : tensor;
    if (run.size() > longest.size()) longest = run;
  }
  return longest.first(static_cast<size_t>(std::min<uint64_t>(limit, longest.size())));
}

}  // namespace minicpmv
