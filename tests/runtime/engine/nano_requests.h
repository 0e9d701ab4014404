#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/runtime/engine/model_engine.h"
#include "tests/runtime/engine/recorder.h"

namespace minicpmv {

inline const ModelFolder& Nano() {
  static const ModelFolder& nano =
      *new ModelFolder(std::string(MINICPMV_SOURCE_DIR) + "/tools/nano/model");
  return nano;
}

// Prompts of random ids: the answers mean nothing, but every bit of the way counts.
inline SequenceRequest RequestOf(uint32_t seed) {
  std::mt19937 random(seed);
  SequenceRequest request;
  request.id = std::to_string(seed);
  request.prompt_tokens = seed % 4 == 3 ? 530 : 3 + random() % 60;
  for (int64_t i = 0; i < request.prompt_tokens; ++i) {
    request.tokens.push_back(static_cast<int32_t>(random() % 480));
  }
  request.sampling.greedy = seed % 2 == 0;
  request.sampling.temperature = 1.5;
  request.sampling.repetition_penalty = 1.05;
  request.sampling.seed = seed;
  request.sampling.max_new_tokens = 40;
  return request;
}

// Each sequence alone, whole prompts, one stage, one step at a time.
inline const std::vector<std::vector<int32_t>>& Alone() {
  static const auto& alone = *new std::vector<std::vector<int32_t>>([] {
    ModelEngine engine(Nano(), ModelEngineOptions());
    std::vector<std::vector<int32_t>> tokens;
    for (int i = 0; i < 16; ++i) {
      Recorder recorder;
      EXPECT_TRUE(engine->Submit(RequestOf(i), recorder).ok());
      EXPECT_TRUE(recorder.Wait().ok());
      tokens.push_back(recorder.tokens());
    }
    return tokens;
  }());
  return alone;
}

}  // namespace minicpmv
