#include "tools/minicpmv/conversation.h"

#include <filesystem>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/data_uri.h"
#include "runtime/base/json_file.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/conversation_json.h"

namespace minicpmv {
namespace {

// Room for 64 of the largest pictures in base64 would be 1.7 GB: a file of this size holds what
// anybody sends.
constexpr size_t kMaxFileBytes = size_t{256} << 20;

absl::StatusOr<Picture> Fetch(const JsonObject& place, absl::string_view key,
                              const std::string& folder) {
  ASSIGN_OR_RETURN(const std::string url, place.String(key));
  if (IsDataUri(url)) {
    absl::StatusOr<std::string> bytes = BytesOfDataUri(url);
    if (!bytes.ok()) return place.Error(key, bytes.status().message());
    return Picture{absl::StrCat(place.file(), ": \"", place.PathOf(key), "\" (data URI)"),
                   *std::move(bytes)};
  }
  if (absl::StrContains(url, "://")) {
    return place.Error(key, "is an address: only paths and data URIs are read",
                       absl::StatusCode::kUnimplemented);
  }
  if (url.empty()) return place.Error(key, "is empty");
  return ReadPicture((std::filesystem::path(folder) / url).string());
}

}  // namespace

absl::StatusOr<Conversation> ParseConversation(absl::string_view text, const std::string& name,
                                               const std::string& folder) {
  const absl::string_view trimmed = absl::StripLeadingAsciiWhitespace(text);
  std::string wrapped;
  if (absl::StartsWith(trimmed, "[")) {
    wrapped = absl::StrCat("{\"messages\":", text, "}");
    text = wrapped;
  }
  ASSIGN_OR_RETURN(const JsonObject whole, JsonObject::Parse(text, name));
  Conversation conversation;
  const auto add_picture = [&](const JsonObject& place, absl::string_view key) {
    absl::StatusOr<Picture> picture = Fetch(place, key, folder);
    if (picture.ok()) conversation.pictures.push_back(*std::move(picture));
    return picture.status();
  };
  ASSIGN_OR_RETURN(conversation.messages, ReadMessages(whole, add_picture));
  return conversation;
}

absl::StatusOr<Conversation> ReadConversation(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFileBytes));
  return ParseConversation(text, path, std::filesystem::path(path).parent_path().string());
}

}  // namespace minicpmv
