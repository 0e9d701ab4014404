#pragma once

#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// Cuts a text into the pieces that byte pair encoding works on, by a regular expression. Immutable
// and thread-safe.
//
// Patterns are written for Oniguruma, the engine of Hugging Face tokenizers, and run on PCRE2 in
// UTF and UCP mode. What these patterns use means the same in both but \s, which is the property
// White_Space there, and one character (U+180E) more here; it is rewritten.
class Splitter {
 public:
  // INVALID_ARGUMENT: not a regular expression, or longer than 4096 bytes. `name` stands for its
  // place in errors.
  static absl::StatusOr<std::unique_ptr<Splitter>> Create(absl::string_view pattern,
                                                          absl::string_view name);
  ~Splitter();

  // Hands the pieces of `text` (valid UTF-8) to `piece` in order: each match, and what lies between
  // two matches. None is empty; together they are the text. RESOURCE_EXHAUSTED when the pattern
  // backtracks out of all proportion.
  absl::Status Split(absl::string_view text,
                     absl::FunctionRef<void(absl::string_view)> piece) const;

 private:
  struct Code;
  explicit Splitter(std::unique_ptr<Code> code);

  const std::unique_ptr<Code> code_;
};

}  // namespace minicpmv
