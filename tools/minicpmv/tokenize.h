#pragma once

#include <string>

#include "absl/status/status.h"
#include "runtime/text/tokenizer.h"

namespace minicpmv {

struct TokenizeOptions {
  std::string folder;
  Tags tags = Tags::kText;
  bool decode = false;
};

// JSON strings on standard input, one a line, to one JSON list of ids a line; or the other way.
// Needs the tokenizer's files only. An error names the line.
absl::Status Tokenize(const TokenizeOptions& options);

}  // namespace minicpmv
