#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/engine/sampling.h"
#include "runtime/media/image.h"
#include "runtime/model/family.h"
#include "runtime/text/tokenizer.h"

namespace minicpmv {

// How a conversation is laid out and answered. What is unset is the model's.
struct ReplyOptions {
  std::optional<double> temperature, top_p, repetition_penalty;
  std::optional<int> top_k;
  std::optional<int64_t> max_new_tokens;
  int64_t min_new_tokens = 0;
  std::optional<uint64_t> seed;
  bool greedy = false;
  std::vector<std::string> stop;

  std::optional<int> max_slices;
  bool image_ids = true;  // false: even where the model numbers its images
  Exif exif = Exif::kApply;
  Tags tags = Tags::kText;
  // What the original does by accident: "!" of a prompt is not seen, tags in a user's text are
  // tokens, "!" and a first
  // <|im_start|> are dropped from the answer, the answer is stripped.
  bool reference_quirks = false;
  std::optional<int64_t> max_prompt_tokens;
};

// The options' settings over the model's; a seed that is not given is drawn. Stop ids are left to
// whoever knows the model.
SamplingSettings SamplingOf(const ReplyOptions& options, const GenerationDefaults& defaults);

}  // namespace minicpmv
