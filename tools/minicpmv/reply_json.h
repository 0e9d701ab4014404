#pragma once

#include <string>

#include "tools/minicpmv/local_reply.h"

namespace minicpmv {

// {"text", "tokens", "finish_reason": "stop"|"length", "usage": {"prompt_tokens",
// "completion_tokens"}, "seconds": {"queue", "media", "encode", "transfer", "prefill", "decode",
// "total"}, "spans": [{"stage", "start", "end"}], "seed"} and a line feed. Spans are seconds since
// the question was asked.
std::string JsonOf(const Reply& reply);

// "0.41 s (media 0.01, encode 0.2, ...), 87 prompt tokens, 12 new tokens, seed 7" and a line feed.
std::string BillLineOf(const Reply& reply);

}  // namespace minicpmv
