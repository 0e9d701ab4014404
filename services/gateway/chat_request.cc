#include "services/gateway/chat_request.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/data_uri.h"
#include "runtime/base/json_file.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/sampling.h"
#include "runtime/model/conversation_json.h"
#include "services/gateway/file_store.h"
#include "services/gateway/unsupported.h"

namespace minicpmv::gateway {
namespace {

constexpr int64_t kMaxCount = std::numeric_limits<int32_t>::max();
constexpr absl::string_view kHandleScheme = "media:";

absl::StatusOr<chat::v1::Role> RoleOf(const JsonObject& message, absl::string_view role) {
  if (role == "system" || role == "developer") return chat::v1::ROLE_SYSTEM;
  if (role == "user") return chat::v1::ROLE_USER;
  if (role == "assistant") return chat::v1::ROLE_ASSISTANT;
  const bool is_known = role == "tool" || role == "function";
  return message.Error(
      "role", absl::StrCat("is ", Quoted(role), ", none of system, user and assistant"),
      is_known ? absl::StatusCode::kUnimplemented : absl::StatusCode::kInvalidArgument);
}

struct Picture {
  chat::v1::Media media;
  std::optional<PictureReference> reference;
};

absl::StatusOr<Picture> ReadPicture(const JsonObject& place, absl::string_view key,
                                    const RemoteHosts& hosts) {
  Picture picture;
  chat::v1::Media& media = picture.media;
  {
    ASSIGN_OR_RETURN(const std::string url, place.String(key));
    absl::string_view handle = url;
    if (IsDataUri(url)) {
      absl::StatusOr<std::string> bytes = BytesOfDataUri(url);
      if (!bytes.ok()) return place.Error(key, bytes.status().message());
      media.set_inline_(*std::move(bytes));
    } else if (absl::ConsumePrefix(&handle, kHandleScheme)) {
      media.set_handle(std::string(handle));
    } else if (absl::StartsWith(url, kFilePrefix)) {
      picture.reference = PictureReference{url, /*is_remote=*/false, 0, 0, place.PathOf(key)};
    } else if (absl::StartsWithIgnoreCase(url, "http://") ||
               absl::StartsWithIgnoreCase(url, "https://")) {
      if (hosts.empty()) {
        return place.Error(key,
                           "is an address in the network, and nothing is fetched from there: send "
                           "the picture as a data URI",
                           absl::StatusCode::kUnimplemented);
      }
      const absl::Status status = hosts.Check(url).status();
      if (!status.ok()) return place.Error(key, status.message());
      picture.reference = PictureReference{url, /*is_remote=*/true, 0, 0, place.PathOf(key)};
    } else {
      return place.Error(key, "is neither a data URI nor a file that was uploaded");
    }
  }
  ASSIGN_OR_RETURN(const std::optional<std::string> detail, place.OptionalString("detail"));
  if (detail == "low") {
    media.set_max_slices(1);
  } else if (detail.has_value() && *detail != "auto" && *detail != "high") {
    return place.Error("detail", absl::StrCat("is ", Quoted(*detail), ", none of auto, low, high"));
  }
  return picture;
}

absl::Status ReadConversation(const JsonObject& body, const RemoteHosts& hosts,
                              ChatRequest& request) {
  chat::v1::Conversation& conversation = *request.reply.mutable_conversation();
  std::vector<Picture> pictures;
  const auto add_picture = [&](const JsonObject& place, absl::string_view key) {
    absl::StatusOr<Picture> picture = ReadPicture(place, key, hosts);
    if (picture.ok()) pictures.push_back(*std::move(picture));
    return picture.status();
  };
  ASSIGN_OR_RETURN(const std::vector<JsonObject> written, body.ObjectList("messages"));
  for (const JsonObject& message : written) RETURN_IF_ERROR(CheckMessageSupport(message));
  ASSIGN_OR_RETURN(std::vector<Message> messages, ReadMessages(body, add_picture));
  size_t next_picture = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    chat::v1::Message& added = *conversation.add_messages();
    ASSIGN_OR_RETURN(const chat::v1::Role role, RoleOf(written[i], messages[i].role));
    added.set_role(role);
    for (MessagePart& part : messages[i].parts) {
      if (part.is_image) {
        Picture& picture = pictures[next_picture++];
        if (picture.reference.has_value()) {
          picture.reference->message = conversation.messages_size() - 1;
          picture.reference->part = added.parts_size();
          request.references.push_back(*std::move(picture.reference));
        }
        *added.add_parts()->mutable_media() = std::move(picture.media);
      } else {
        added.add_parts()->set_text(std::move(part.text));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ReadSampling(const JsonObject& body, chat::v1::Sampling& sampling) {
  ASSIGN_OR_RETURN(const std::optional<double> temperature, body.OptionalNumber("temperature"));
  if (temperature == 0) {
    sampling.set_greedy(true);
  } else if (temperature.has_value()) {
    sampling.set_temperature(*temperature);
  }
  ASSIGN_OR_RETURN(const std::optional<double> top_p, body.OptionalNumber("top_p"));
  if (top_p.has_value()) sampling.set_top_p(*top_p);
  ASSIGN_OR_RETURN(const std::optional<int64_t> top_k, body.OptionalInt("top_k", -1, kMaxTopK));
  if (top_k.has_value()) sampling.set_top_k(*top_k < 0 ? 0 : static_cast<uint32_t>(*top_k));
  ASSIGN_OR_RETURN(const std::optional<double> penalty, body.OptionalNumber("repetition_penalty"));
  if (penalty.has_value()) sampling.set_repetition_penalty(*penalty);
  ASSIGN_OR_RETURN(const std::optional<uint64_t> seed, body.OptionalBits("seed"));
  if (seed.has_value()) sampling.set_seed(*seed);
  return absl::OkStatus();
}

absl::Status ReadLengths(const JsonObject& body, chat::v1::ReplyOptions& options) {
  // The older name first, for clients that send both.
  for (const char* const key : {"max_tokens", "max_completion_tokens"}) {
    ASSIGN_OR_RETURN(const std::optional<int64_t> most, body.OptionalInt(key, 1, kMaxCount));
    if (most.has_value()) options.set_max_new_tokens(static_cast<uint32_t>(*most));
  }
  ASSIGN_OR_RETURN(const std::optional<int64_t> least,
                   body.OptionalInt("min_tokens", 0, kMaxCount));
  if (least.has_value()) options.set_min_new_tokens(static_cast<uint32_t>(*least));
  ASSIGN_OR_RETURN(const auto stop, body.OptionalStringList("stop"));
  if (stop.has_value()) options.mutable_stop()->Add(stop->begin(), stop->end());
  return absl::OkStatus();
}

absl::Status ReadMediaOptions(const JsonObject& body, chat::v1::MediaOptions& options) {
  ASSIGN_OR_RETURN(const std::optional<JsonObject> written,
                   body.OptionalObject("mm_processor_kwargs"));
  if (!written.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::optional<int64_t> slices,
                   written->OptionalInt("max_slice_nums", 1, kMaxCount));
  if (slices.has_value()) options.set_max_slices(static_cast<uint32_t>(*slices));
  ASSIGN_OR_RETURN(const std::optional<bool> image_id, written->OptionalBool("use_image_id"));
  if (image_id.has_value()) options.set_use_image_id(*image_id);
  return absl::OkStatus();
}

absl::Status ReadStreaming(const JsonObject& body, ChatRequest& request) {
  ASSIGN_OR_RETURN(const std::optional<bool> stream, body.OptionalBool("stream"));
  request.stream = stream.value_or(false);
  ASSIGN_OR_RETURN(const std::optional<JsonObject> options, body.OptionalObject("stream_options"));
  if (!options.has_value()) return absl::OkStatus();
  if (!request.stream) return body.Error("stream_options", "has no meaning without \"stream\"");
  ASSIGN_OR_RETURN(const std::optional<bool> usage, options->OptionalBool("include_usage"));
  request.include_usage = usage.value_or(false);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ChatRequest> ReadChatRequest(absl::string_view text, const RemoteHosts& hosts) {
  ASSIGN_OR_RETURN(const JsonObject body, JsonObject::Parse(text, "body"));
  RETURN_IF_ERROR(CheckSupport(body));
  ChatRequest request;
  ASSIGN_OR_RETURN(*request.reply.mutable_model(), body.String("model"));
  RETURN_IF_ERROR(ReadStreaming(body, request));
  chat::v1::ReplyOptions& options = *request.reply.mutable_options();
  RETURN_IF_ERROR(ReadSampling(body, *options.mutable_sampling()));
  RETURN_IF_ERROR(ReadLengths(body, options));
  RETURN_IF_ERROR(ReadMediaOptions(body, *options.mutable_media()));
  RETURN_IF_ERROR(ReadConversation(body, hosts, request));
  return request;
}

}  // namespace minicpmv::gateway
