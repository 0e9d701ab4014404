#include "runtime/engine/sampling.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace minicpmv {
namespace {

template <typename Value>
absl::Status Refuse(absl::string_view field, Value value, absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ": ", rule));
}

}  // namespace

// Comparisons are written so that a NaN fails them.
absl::Status Validate(const SamplingSettings& settings, int64_t vocabulary) {
  if (!settings.greedy) {
    if (settings.temperature == 0) {
      return Refuse("temperature", 0, "it has to be positive; greedy takes the best token instead");
    }
    if (!(settings.temperature > 0 && settings.temperature <= kMaxTemperature)) {
      return Refuse("temperature", settings.temperature,
                    absl::StrCat("it lies in (0, ", kMaxTemperature, "]"));
    }
  }
  if (!(settings.top_p > 0 && settings.top_p <= 1)) {
    return Refuse("top_p", settings.top_p, "it lies in (0, 1]; 1 is off");
  }
  if (settings.top_k < 0 || settings.top_k > kMaxTopK) {
    return Refuse("top_k", settings.top_k,
                  absl::StrCat("it lies in [0, ", kMaxTopK, "]; 0 is off"));
  }
  if (!(settings.repetition_penalty >= 1 / kMaxPenalty &&
        settings.repetition_penalty <= kMaxPenalty)) {
    return Refuse("repetition_penalty", settings.repetition_penalty,
                  absl::StrCat("it lies in [", 1 / kMaxPenalty, ", ", kMaxPenalty, "]; 1 is off"));
  }
  if (settings.max_new_tokens < 1) {
    return Refuse("max_new_tokens", settings.max_new_tokens, "it is at least 1");
  }
  if (settings.min_new_tokens < 0) {
    return Refuse("min_new_tokens", settings.min_new_tokens, "it cannot be negative");
  }
  if (settings.min_new_tokens > settings.max_new_tokens) {
    return Refuse("min_new_tokens", settings.min_new_tokens,
                  absl::StrCat("it is more than max_new_tokens, ", settings.max_new_tokens));
  }
  for (int32_t id : settings.stop_ids) {
    if (id < 0 || id >= vocabulary) {
      return Refuse("stop_ids", id, absl::StrCat("ids lie in [0, ", vocabulary, ")"));
    }
  }
  return absl::OkStatus();
}

}  // namespace minicpmv
