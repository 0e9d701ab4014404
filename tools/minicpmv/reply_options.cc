#include "tools/minicpmv/reply_options.h"

#include <random>

namespace minicpmv {
namespace {

// Below 2^53: readers of JSON that keep numbers as doubles hand it back unchanged.
uint64_t DrawSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) >> 11;
}

}  // namespace

SamplingSettings SamplingOf(const ReplyOptions& options, const GenerationDefaults& defaults) {
  SamplingSettings settings;
  settings.temperature = options.temperature.value_or(defaults.temperature);
  settings.top_p = options.top_p.value_or(defaults.top_p);
  settings.top_k = options.top_k.value_or(defaults.top_k);
  settings.repetition_penalty = options.repetition_penalty.value_or(defaults.repetition_penalty);
  settings.min_new_tokens = options.min_new_tokens;
  settings.max_new_tokens = options.max_new_tokens.value_or(defaults.max_new_tokens);
  settings.seed = options.seed.has_value() ? *options.seed : DrawSeed();
  settings.greedy = options.greedy;
  return settings;
}

}  // namespace minicpmv
