#include "services/common/read_prompt.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "services/common/status_proto.h"

namespace minicpmv {
namespace {

constexpr size_t kDigestBytes = 32;
constexpr size_t kMaxRequestIdBytes = 128;

absl::Status CheckMedium(const common::v1::Span& span, absl::string_view field) {
  if (span.media_digest().size() != kDigestBytes) {
    return BadField(
        absl::StrCat(field, ".media_digest"),
        absl::StrCat("has ", span.media_digest().size(), " bytes: a SHA-256 has ", kDigestBytes));
  }
  if (span.options().has_max_slices() && span.options().max_slices() == 0) {
    return BadField(absl::StrCat(field, ".options.max_slices"), "is 0: it is at least 1");
  }
  return absl::OkStatus();
}

// `end`: where the span before ended.
absl::Status CheckSpan(const common::v1::Span& span, absl::string_view field, int64_t end,
                       const PromptParts& parts) {
  const int64_t first = span.first_token();
  const int64_t rows = span.rows();
  if (first < end || first >= parts.prompt_tokens) {
    return BadField(absl::StrCat(field, ".first_token"),
                    absl::StrCat("is ", first, ": it lies in [", end, ", ", parts.prompt_tokens,
                                 "), behind the span before and within the prompt"));
  }
  const int64_t room =
      std::min(parts.prompt_tokens, static_cast<int64_t>(parts.tokens.size()) - 1) - first;
  if (rows < 1 || rows > room) {
    return BadField(absl::StrCat(field, ".rows"),
                    absl::StrCat("is ", rows, ": from position ", first, " there is room for ",
                                 room, " (the last token is never one of them)"));
  }
  return CheckMedium(span, field);
}

}  // namespace

absl::Status BadField(absl::string_view field, absl::string_view words) {
  return WithField(absl::InvalidArgumentError(absl::StrCat(field, " ", words)), field);
}

absl::StatusOr<PromptParts> ReadPrompt(const common::v1::Prompt& prompt, int64_t vocabulary,
                                       int64_t max_positions) {
  const int64_t tokens = prompt.tokens_size();
  if (tokens == 0) return BadField("prompt.tokens", "is empty");
  if (tokens >= max_positions) {
    return WithField(absl::OutOfRangeError(
                         absl::StrCat("prompt.tokens has ", tokens, ": a context of ",
                                      max_positions, " positions has no room for them and more")),
                     "prompt.tokens");
  }
  PromptParts parts;
  parts.prompt_tokens = prompt.prompt_tokens();
  if (parts.prompt_tokens < 1 || parts.prompt_tokens > tokens) {
    return BadField("prompt.prompt_tokens", absl::StrCat("is ", parts.prompt_tokens, " of ", tokens,
                                                         " tokens: at least 1, at most all"));
  }
  parts.tokens.reserve(static_cast<size_t>(tokens));
  for (int64_t i = 0; i < tokens; ++i) {
    const uint32_t id = prompt.tokens(static_cast<int>(i));
    if (id >= vocabulary) {
      return BadField(absl::StrCat("prompt.tokens[", i, "]"),
                      absl::StrCat("is ", id, ": ids lie in [0, ", vocabulary, ")"));
    }
    parts.tokens.push_back(static_cast<int32_t>(id));
  }
  int64_t end = 0;
  for (const common::v1::Span& span : prompt.spans()) {
    const std::string field = absl::StrCat("prompt.spans[", parts.spans.size(), "]");
    RETURN_IF_ERROR(CheckSpan(span, field, end, parts));
    parts.spans.push_back({span.first_token(), span.rows(), ContentOf(span)});
    parts.media_tokens += span.rows();
    end = int64_t{span.first_token()} + span.rows();
  }
  return parts;
}

std::string ContentOf(const common::v1::Span& span) {
  const common::v1::Slice& slice = span.slice();
  const common::v1::MediaOptions& options = span.options();
  const bool ignores_exif = options.exif_orientation() == common::v1::EXIF_ORIENTATION_IGNORE;
  // The digest is of one size, so the rest cannot be taken for a part of it.
  return absl::StrCat(span.media_digest(), "frame", slice.frame(), "grid", slice.grid_columns(),
                      "x", slice.grid_rows(), "slice", slice.index(), "patches",
                      slice.patch_columns(), "x", slice.patch_rows(), "max",
                      options.has_max_slices() ? absl::StrCat(options.max_slices()) : "",
                      ignores_exif ? "stored" : "shown");
}

absl::Status CheckScope(const common::v1::RequestScope& scope) {
  if (scope.request_id().size() > kMaxRequestIdBytes) {
    return BadField("scope.request_id", absl::StrCat("has ", scope.request_id().size(),
                                                     " bytes: at most ", kMaxRequestIdBytes));
  }
  if (scope.cache_scope().size() > kMaxCacheScopeBytes) {
    return BadField("scope.cache_scope", absl::StrCat("has ", scope.cache_scope().size(),
                                                      " bytes: at most ", kMaxCacheScopeBytes));
  }
  return absl::OkStatus();
}

}  // namespace minicpmv
