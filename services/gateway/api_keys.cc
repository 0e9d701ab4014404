#include "services/gateway/api_keys.h"

#include <algorithm>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/status_macros.h"
#include "services/common/read_prompt.h"

namespace minicpmv::gateway {
namespace {

constexpr size_t kMaxFileBytes = 16 << 20;
constexpr size_t kMinKeyBytes = 16, kMaxKeyBytes = 1024;
constexpr absl::string_view kScheme = "Bearer ";

bool IsPrintable(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); });
}

}  // namespace

absl::StatusOr<ApiKeys> ApiKeys::Load(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFileBytes));
  return Parse(text, path);
}

absl::StatusOr<ApiKeys> ApiKeys::Parse(absl::string_view text, absl::string_view name) {
  ApiKeys read;
  std::set<absl::string_view> seen;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const absl::string_view trimmed = absl::StripAsciiWhitespace(line);
    if (trimmed.empty() || trimmed.front() == '#') continue;
    const auto wrong = [&](absl::string_view words) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": line ", number, " ", words));
    };
    const std::vector<absl::string_view> words =
        absl::StrSplit(trimmed, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (words.size() != 2) return wrong("is not \"TENANT KEY\"");
    if (words[0].size() > kMaxCacheScopeBytes || !IsPrintable(words[0])) {
      return wrong("names a tenant that has not 1 to 64 printable characters");
    }
    if (words[1].size() < kMinKeyBytes || words[1].size() > kMaxKeyBytes ||
        !IsPrintable(words[1])) {
      return wrong("has a key that has not 16 to 1024 printable characters");
    }
    if (!seen.insert(words[1]).second) return wrong("has the key of a line before it");
    read.keys_.push_back({Secret(words[1]), std::string(words[0])});
  }
  if (read.keys_.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": has no key"));
  return read;
}

std::optional<std::string> ApiKeys::TenantOf(absl::string_view authorization) const {
  if (keys_.empty()) return "";
  if (!absl::StartsWithIgnoreCase(authorization, kScheme)) return std::nullopt;
  const absl::string_view shown =
      absl::StripLeadingAsciiWhitespace(authorization.substr(kScheme.size()));
  const Key* found = nullptr;
  for (const Key& key : keys_) {
    if (key.secret.Is(shown)) found = &key;
  }
  if (found == nullptr) return std::nullopt;
  return found->tenant;
}

}  // namespace minicpmv::gateway
