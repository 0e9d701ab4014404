#include "runtime/model/conversation_json.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

class Reader {
 public:
  explicit Reader(PictureReader on_picture) : on_picture_(on_picture) {}

  absl::StatusOr<Message> Read(const JsonObject& message) {
    Message read;
    ASSIGN_OR_RETURN(read.role, message.String("role"));
    if (absl::StatusOr<std::string> text = message.String("content"); text.ok()) {
      read.parts.push_back({*std::move(text)});
      return read;
    }
    ASSIGN_OR_RETURN(const std::vector<JsonObject> parts, message.ObjectList("content"));
    for (const JsonObject& part : parts) RETURN_IF_ERROR(AddPart(part, read));
    return read;
  }

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
    return part.Error("type", "is neither \"text\" nor \"image_url\"",
                      absl::StatusCode::kUnimplemented);
  }

  absl::Status AddPicture(const JsonObject& place, absl::string_view key, Message& message) {
    if (pictures_++ == kMaxImages) {
      return place.Error(key, absl::StrCat("is one picture more than the ", kMaxImages,
                                           " that a conversation may show"));
    }
    message.parts.push_back({"", /*is_image=*/true});
    return on_picture_(place, key);
  }

  const PictureReader on_picture_;
  int pictures_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<Message>> ReadMessages(const JsonObject& conversation,
                                                  PictureReader on_picture) {
  ASSIGN_OR_RETURN(const std::vector<JsonObject> messages, conversation.ObjectList("messages"));
  Reader reader(on_picture);
  std::vector<Message> read;
  read.reserve(messages.size());
  for (const JsonObject& message : messages) {
    ASSIGN_OR_RETURN(Message one, reader.Read(message));
    read.push_back(std::move(one));
  }
  return read;
}

}  // namespace minicpmv
