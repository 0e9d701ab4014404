#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "runtime/engine/local_model.h"
#include "tools/minicpmv/question.h"
#include "tools/minicpmv/reply_options.h"

namespace minicpmv {

struct TraceOptions {
  LocalModelOptions model;
  QuestionOptions question;
  ReplyOptions reply;
  std::string out;  // the safetensors file
  std::string
      force_tokens;  // a file with a JSON list of ids that are fed whatever is chosen; "": none
  bool layers = false;
};

// Answers greedily and writes what was computed on the way, for comparing with the original:
// input_ids [positions] and greedy_tokens [steps] (what was chosen at each step), int32; rows
// [sub-images * queries, hidden], prompt_logits [8 or fewer, vocabulary] of the prompt's last
// positions, greedy_logits [steps, vocabulary], float32; with `layers` pixels.0 [3, patch, patch *
// patches] of the first sub-image, patches side by side, vision.0.NN and vision.0.out [patches,
// width], hidden.NN [positions, hidden].
absl::Status Trace(const TraceOptions& options);

}  // namespace minicpmv
