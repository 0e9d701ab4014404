#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/stop_texts.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/trimmer.h"

namespace minicpmv {

// Tokens of one reply in, the text that may be sent out. Neither a stop text nor what follows it,
// nor half a character, ever comes out. For one thread.
class ReplyText {
 public:
  struct Options {
    std::vector<std::string> stop;
    // As the original: token 0 and a first `message_start` are left out, white space at both ends
    // is taken off.
    bool reference_quirks = false;
    int32_t message_start = -1;
  };

  // The tokenizer outlives this. INVALID_ARGUMENT: errors of StopTexts.
  static absl::StatusOr<ReplyText> Create(const Tokenizer& tokenizer, Options options);

  // A token that is not a stop id. What can be sent now, often nothing.
  std::string Push(int32_t token);
  // The end of the reply: what still waited.
  std::string Finish();
  // A stop text has come.
  bool stopped() const { return stop_.stopped(); }

 private:
  ReplyText(const Tokenizer& tokenizer, StopTexts stop, Options options)
      : options_(std::move(options)), characters_(tokenizer), stop_(std::move(stop)) {}
  std::string Send(std::string text);

  Options options_;
  Detokenizer characters_;
  StopTexts stop_;
  Trimmer trimmer_;
  bool first_ = true;
};

}  // namespace minicpmv
