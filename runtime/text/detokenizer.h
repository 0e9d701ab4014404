#pragma once

#include <cstdint>
#include <string>

#include "runtime/text/tokenizer.h"

namespace minicpmv {

// Tokens of one reply in, text that is whole UTF-8 out: a character split over tokens waits for its
// last byte. The results of all calls, joined, are Tokenizer::Decode of all ids. For one thread.
class Detokenizer {
 public:
  // `tokenizer` must outlive this.
  explicit Detokenizer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // The text that this token completes; often empty.
  std::string Push(int32_t id);
  // The end: U+FFFD if a character was left unfinished. Ready for another reply then.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;  // the start of a character, three bytes at most
};

}  // namespace minicpmv
