#include "runtime/engine/request_checks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

absl::Status CheckIds(absl::string_view field, const std::vector<int32_t>& ids,
                      int64_t vocabulary) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, "[", i, "] is ", ids[i], ": ids lie in [0, ", vocabulary, ")"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPrompt(const std::vector<int32_t>& ids, int64_t prompt_tokens, int64_t vocabulary,
                         int64_t max_positions) {
  const int64_t tokens = static_cast<int64_t>(ids.size());
  if (tokens == 0) return absl::InvalidArgumentError("tokens: there are none");
  RETURN_IF_ERROR(CheckIds("tokens", ids, vocabulary));
  if (prompt_tokens < 1 || prompt_tokens > tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt_tokens is ", prompt_tokens, " of ", tokens, " tokens"));
  }
  if (prompt_tokens >= max_positions) {
    return absl::InvalidArgumentError(absl::StrCat("the prompt has ", prompt_tokens,
                                                   " tokens; the context holds ", max_positions,
                                                   ", the reply included"));
  }
  return absl::OkStatus();
}

absl::Status CheckSpans(const std::vector<SequenceRequest::Span>& spans, int64_t limit,
                        absl::string_view limit_name) {
  int64_t end = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    const SequenceRequest::Span& span = spans[i];
    if (span.first < end || span.count < 1 || span.first > limit ||
        span.count > limit - span.first) {
      return absl::InvalidArgumentError(absl::StrCat(
          "spans[", i, "] of ", span.count, " positions from ", span.first,
          " does not lie between the one before and the ", limit_name, ", ", limit));
    }
    end = span.first + span.count;
  }
  return absl::OkStatus();
}

// The last token is computed where tokens are chosen, and no rows get there.
absl::Status CheckHandedOverSpans(const std::vector<SequenceRequest::Span>& spans,
                                  int64_t prompt_tokens, int64_t tokens) {
  RETURN_IF_ERROR(CheckSpans(spans, prompt_tokens, "end of the prompt"));
  return CheckSpans(spans, std::min(prompt_tokens, tokens - 1), "last token");
}

}  // namespace

int64_t MaxTokens(const SequenceRequest& request, int64_t max_positions) {
  const int64_t room = max_positions - request.prompt_tokens;
  return request.prompt_tokens + std::min(room, request.sampling.max_new_tokens);
}

absl::Status CheckSequence(const SequenceRequest& request, int64_t vocabulary,
                           int64_t max_positions) {
  RETURN_IF_ERROR(Validate(request.sampling, vocabulary));
  RETURN_IF_ERROR(CheckPrompt(request.tokens, request.prompt_tokens, vocabulary, max_positions));
  RETURN_IF_ERROR(CheckIds("forced_tokens", request.forced_tokens, vocabulary));
  const int64_t tokens = static_cast<int64_t>(request.tokens.size());
  if (tokens >= MaxTokens(request, max_positions)) {
    return absl::InvalidArgumentError(absl::StrCat("tokens: ", tokens - request.prompt_tokens,
                                                   " were generated, and no more are allowed"));
  }
  return CheckSpans(request.spans, request.prompt_tokens, "end of the prompt");
}

absl::Status CheckLanding(const SequenceRequest& request, int64_t vocabulary,
                          int64_t max_positions) {
  RETURN_IF_ERROR(CheckSequence(request, vocabulary, max_positions));
  return CheckHandedOverSpans(request.spans, request.prompt_tokens,
                              static_cast<int64_t>(request.tokens.size()));
}

absl::Status CheckPrefill(const PrefillRequest& request, int64_t vocabulary,
                          int64_t max_positions) {
  RETURN_IF_ERROR(CheckPrompt(request.tokens, request.prompt_tokens, vocabulary, max_positions));
  const int64_t tokens = static_cast<int64_t>(request.tokens.size());
  if (tokens < 2 || tokens > max_positions) {
    return absl::InvalidArgumentError(absl::StrCat("tokens: ", tokens,
                                                   " where at least 2 belong, and at most ",
                                                   max_positions, ", the context"));
  }
  const int64_t from = request.send_from;
  if (from < 0 || from > tokens - 1 || (from % kPageSize != 0 && from != tokens - 1)) {
    return absl::InvalidArgumentError(absl::StrCat("send_from is ", from,
                                                   ": a multiple of ", kPageSize,
                                                   " belongs there, or ", tokens - 1,
                                                   ", all that is computed"));
  }
  return CheckHandedOverSpans(request.spans, request.prompt_tokens, tokens);
}

}  // namespace minicpmv
