#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "minicpmv/common/v1/prompt.pb.h"
#include "minicpmv/common/v1/scope.pb.h"
#include "runtime/engine/sequence.h"

namespace minicpmv {

// A prompt as an engine takes it.
struct PromptParts {
  std::vector<int32_t> tokens;
  int64_t prompt_tokens = 0;
  std::vector<SequenceRequest::Span> spans;
  int64_t media_tokens = 0;  // that the spans hold
};

// Checks everything about a prompt that came from outside. INVALID_ARGUMENT names the field
// ("prompt.spans[2].rows"): no tokens, an id outside the vocabulary, spans that do not rise, that
// overlap, that leave the prompt or hold the last token, a digest that is none. OUT_OF_RANGE: a
// context of `max_positions` has no room for the tokens and one more.
absl::StatusOr<PromptParts> ReadPrompt(const common::v1::Prompt& prompt, int64_t vocabulary,
                                       int64_t max_positions);

// What a span's rows are made of, as a name: equal names mean equal rows.
std::string ContentOf(const common::v1::Span& span);

// Of a cache scope, which is a tenant's name, too.
inline constexpr size_t kMaxCacheScopeBytes = 64;
// INVALID_ARGUMENT names the field that is longer than it may be.
absl::Status CheckScope(const common::v1::RequestScope& scope);

// INVALID_ARGUMENT with words and detail that name the field.
absl::Status BadField(absl::string_view field, absl::string_view words);

}  // namespace minicpmv
