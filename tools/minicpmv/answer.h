#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/minicpmv/bill.h"

namespace minicpmv {

// One answer as it is shown, whoever gave it.
struct Answer {
  // Seconds since the question was asked.
  struct Span {
    std::string stage;
    double start = 0, end = 0;
  };

  std::string text;
  std::vector<int64_t> tokens;  // an ending stop id, too
  bool was_cut = false;         // by a limit, not by the model or a stop text
  int64_t prompt_tokens = 0;
  std::array<double, std::size(kBillStages)> seconds = {};  // in the order of kBillStages
  double total_seconds = 0;
  std::vector<Span> spans;
  uint64_t seed = 0;
};

// {"text", "tokens", "finish_reason": "stop"|"length", "usage": {"prompt_tokens",
// "completion_tokens"}, "seconds": {"queue", "media", "encode", "transfer", "prefill", "decode",
// "total"}, "spans": [{"stage", "start", "end"}], "seed"} and a line feed.
std::string JsonOf(const Answer& answer);

// "bill:     0.41 s (queue 0.001, ...), 87 prompt tokens, 12 new tokens, seed 7" and a line feed.
std::string BillLineOf(const Answer& answer);

}  // namespace minicpmv
