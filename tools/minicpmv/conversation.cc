#include "tools/minicpmv/conversation.h"

#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/json_file.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

// Room for 64 of the largest pictures in base64 would be 1.7 GB: a file of this size holds what
// anybody sends.
constexpr size_t kMaxFileBytes = size_t{256} << 20;

// "file.json: \"messages[0].content[1].url\"", from the words with which the JSON reader would
// blame that field.
std::string PlaceOf(const JsonObject& object, absl::string_view key) {
  return std::string(absl::StripTrailingAsciiWhitespace(object.Error(key, "").message()));
}

class Reader {
 public:
  explicit Reader(const std::string& folder) : folder_(folder) {}

  absl::Status AddMessage(const JsonObject& message) {
    Message& added = conversation_.messages.emplace_back();
    ASSIGN_OR_RETURN(added.role, message.String("role"));
    if (absl::StatusOr<std::string> text = message.String("content"); text.ok()) {
      added.parts.push_back({*std::move(text)});
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const std::vector<JsonObject> parts, message.ObjectList("content"));
    for (const JsonObject& part : parts) RETURN_IF_ERROR(AddPart(part, added));
    return absl::OkStatus();
  }

  Conversation Take() { return std::move(conversation_); }

 private:
  absl::Status AddPart(const JsonObject& part, Message& message) {
    ASSIGN_OR_RETURN(std::optional<std::string> type, part.OptionalString("type"));
    if (!type.has_value()) type = part.Has("image") ? "image" : "text";
    if (*type == "text") {
      ASSIGN_OR_RETURN(std::string text, part.String("text"));
      message.parts.push_back({std::move(text)});
      return absl::OkStatus();
    }
    if (*type == "image") return AddPicture(part, "image", message);
    if (*type == "image_url") {
      if (part.String("image_url").ok()) return AddPicture(part, "image_url", message);
      ASSIGN_OR_RETURN(const JsonObject url, part.Object("image_url"));
      return AddPicture(url, "url", message);
    }
    return absl::UnimplementedError(
        absl::StrCat(PlaceOf(part, "type"), " is neither \"text\" nor \"image_url\""));
  }

  absl::Status AddPicture(const JsonObject& object, absl::string_view key, Message& message) {
    ASSIGN_OR_RETURN(const std::string url, object.String(key));
    if (conversation_.pictures.size() == kMaxImages) {
      return object.Error(key, absl::StrCat("is one picture more than the ", kMaxImages,
                                            " that a conversation may show"));
    }
    ASSIGN_OR_RETURN(Picture picture, Fetch(url, object, key));
    conversation_.pictures.push_back(std::move(picture));
    message.parts.push_back({"", /*is_image=*/true});
    return absl::OkStatus();
  }

  absl::StatusOr<Picture> Fetch(const std::string& url, const JsonObject& object,
                                absl::string_view key) const {
    if (IsDataUri(url)) return PictureFromDataUri(url, PlaceOf(object, key));
    if (absl::StrContains(url, "://")) {
      return absl::UnimplementedError(
          absl::StrCat(PlaceOf(object, key), " is an address: only paths and data URIs are read"));
    }
    if (url.empty()) return object.Error(key, "is empty");
    return ReadPicture((std::filesystem::path(folder_) / url).string());
  }

  const std::string& folder_;
  Conversation conversation_;
};

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
  ASSIGN_OR_RETURN(const std::vector<JsonObject> messages, whole.ObjectList("messages"));
  Reader reader(folder);
  for (const JsonObject& message : messages) RETURN_IF_ERROR(reader.AddMessage(message));
  return reader.Take();
}

absl::StatusOr<Conversation> ReadConversation(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFileBytes));
  return ParseConversation(text, path, std::filesystem::path(path).parent_path().string());
}

}  // namespace minicpmv
