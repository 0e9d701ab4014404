#include "services/router/request_check.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/sampling.h"
#include "runtime/model/prompt.h"
#include "services/common/read_prompt.h"
#include "services/common/status_proto.h"

namespace minicpmv::router {
namespace {

constexpr int kMaxMessages = 10'000;
constexpr int kMaxStops = 64;
constexpr size_t kMaxStopBytes = 1024;
constexpr uint32_t kMaxSlices = 1024;
constexpr uint32_t kMaxCount = INT32_MAX;
constexpr int kMaxResumeTokens = 1 << 20;
constexpr size_t kMaxRequestIdBytes = 128;

std::string MessagePath(int message) {
  return absl::StrCat("conversation.messages[", message, "]");
}
std::string PartPath(int message, int part) {
  return absl::StrCat(MessagePath(message), ".parts[", part, "]");
}

bool IsIn(double value, double min, double max) {
  return std::isfinite(value) && value >= min && value <= max;
}

absl::Status CheckSlices(const std::string& path, uint32_t slices) {
  if (slices >= 1 && slices <= kMaxSlices) return absl::OkStatus();
  return BadField(path, absl::StrCat("is not in [1, ", kMaxSlices, "]"));
}

absl::Status CheckPart(const chat::v1::Part& part, chat::v1::Role role, const std::string& path) {
  switch (part.content_case()) {
    case chat::v1::Part::kText:
      return absl::OkStatus();
    case chat::v1::Part::kMedia:
      break;
    case chat::v1::Part::CONTENT_NOT_SET:
      return BadField(path, "is neither text nor media");
  }
  const chat::v1::Media& media = part.media();
  if (role == chat::v1::ROLE_SYSTEM) return BadField(path, "is media in a system message");
  if (media.source_case() == chat::v1::Media::SOURCE_NOT_SET) {
    return BadField(absl::StrCat(path, ".media"), "has neither bytes nor a handle");
  }
  if (media.has_inline_() && media.inline_().empty()) {
    return BadField(absl::StrCat(path, ".media.inline"), "is empty");
  }
  if (media.has_max_slices()) {
    return CheckSlices(absl::StrCat(path, ".media.max_slices"), media.max_slices());
  }
  return absl::OkStatus();
}

absl::Status CheckMessage(const chat::v1::Message& message, int index) {
  const std::string path = MessagePath(index);
  if (message.role() == chat::v1::ROLE_SYSTEM) {
    if (index != 0) return BadField(path + ".role", "is a system's, which only the first may be");
  } else if (message.role() != chat::v1::ROLE_USER && message.role() != chat::v1::ROLE_ASSISTANT) {
    return BadField(path + ".role", "is neither system, user nor assistant");
  }
  bool has_content = message.role() == chat::v1::ROLE_SYSTEM;
  for (int i = 0; i < message.parts_size(); ++i) {
    RETURN_IF_ERROR(CheckPart(message.parts(i), message.role(), PartPath(index, i)));
    has_content = has_content || !message.parts(i).has_text() || !message.parts(i).text().empty();
  }
  return has_content ? absl::OkStatus() : BadField(path + ".parts", "is empty");
}

absl::Status CheckConversation(const chat::v1::Conversation& conversation) {
  const int messages = conversation.messages_size();
  if (messages == 0) return BadField("conversation.messages", "is empty");
  if (messages > kMaxMessages) {
    return BadField("conversation.messages", absl::StrCat("has more than ", kMaxMessages));
  }
  int media = 0;
  for (int i = 0; i < messages; ++i) {
    const chat::v1::Message& message = conversation.messages(i);
    RETURN_IF_ERROR(CheckMessage(message, i));
    for (const chat::v1::Part& part : message.parts()) media += part.has_media();
    if (media > kMaxImages) {
      return BadField(MessagePath(i), absl::StrCat("shows more than the ", kMaxImages,
                                                   " media that a conversation may have"));
    }
  }
  const int first = conversation.messages(0).role() == chat::v1::ROLE_SYSTEM ? 1 : 0;
  if (first == messages) return BadField("conversation.messages", "has none of a user");
  for (const int place : {first, messages - 1}) {
    if (conversation.messages(place).role() != chat::v1::ROLE_USER) {
      return BadField(MessagePath(place) + ".role", place == first
                                                        ? "comes first and is not the user's"
                                                        : "comes last and is not the user's");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSampling(const chat::v1::Sampling& sampling) {
  const std::string path = "options.sampling.";
  if (sampling.has_temperature() &&
      !(IsIn(sampling.temperature(), 0, kMaxTemperature) && sampling.temperature() > 0)) {
    return BadField(path + "temperature", absl::StrCat("is not in (0, ", kMaxTemperature, "]"));
  }
  if (sampling.has_top_p() && !(IsIn(sampling.top_p(), 0, 1) && sampling.top_p() > 0)) {
    return BadField(path + "top_p", "is not in (0, 1]");
  }
  if (sampling.has_top_k() && sampling.top_k() > static_cast<uint32_t>(kMaxTopK)) {
    return BadField(path + "top_k", absl::StrCat("is not in [0, ", kMaxTopK, "]"));
  }
  if (sampling.has_repetition_penalty() &&
      !IsIn(sampling.repetition_penalty(), 1 / kMaxPenalty, kMaxPenalty)) {
    return BadField(path + "repetition_penalty",
                    absl::StrCat("is not in [", 1 / kMaxPenalty, ", ", kMaxPenalty, "]"));
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const chat::v1::ReplyOptions& options) {
  RETURN_IF_ERROR(CheckSampling(options.sampling()));
  if (options.media().has_max_slices()) {
    RETURN_IF_ERROR(CheckSlices("options.media.max_slices", options.media().max_slices()));
  }
  if (options.has_max_new_tokens() &&
      (options.max_new_tokens() == 0 || options.max_new_tokens() > kMaxCount)) {
    return BadField("options.max_new_tokens", absl::StrCat("is not in [1, ", kMaxCount, "]"));
  }
  if (options.min_new_tokens() > kMaxCount) {
    return BadField("options.min_new_tokens", absl::StrCat("is not in [0, ", kMaxCount, "]"));
  }
  if (options.stop_size() > kMaxStops) {
    return BadField("options.stop", absl::StrCat("has more than ", kMaxStops, " texts"));
  }
  for (int i = 0; i < options.stop_size(); ++i) {
    const size_t bytes = options.stop(i).size();
    if (bytes == 0 || bytes > kMaxStopBytes) {
      return BadField(absl::StrCat("options.stop[", i, "]"),
                      absl::StrCat("has not between 1 and ", kMaxStopBytes, " bytes"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckResume(const chat::v1::Resume& resume) {
  if (resume.tokens_size() > kMaxResumeTokens) {
    return BadField("resume.tokens", absl::StrCat("has more than ", kMaxResumeTokens));
  }
  if (resume.choice() != 0) return BadField("resume.choice", "is not a choice of this request");
  if (resume.sequence() == 0) return BadField("resume.sequence", "is 0: nothing had arrived");
  if (resume.request_id().size() > kMaxRequestIdBytes) {
    return BadField("resume.request_id",
                    absl::StrCat("is longer than ", kMaxRequestIdBytes, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckRequest(const chat::v1::StreamReplyRequest& request) {
  RETURN_IF_ERROR(CheckConversation(request.conversation()));
  RETURN_IF_ERROR(CheckOptions(request.options()));
  return request.has_resume() ? CheckResume(request.resume()) : absl::OkStatus();
}

absl::StatusOr<ReceivedRequest> ReceiveRequest(chat::v1::StreamReplyRequest request,
                                               const std::string& cache_scope, MediaBytes& media) {
  RETURN_IF_ERROR(CheckRequest(request));
  ReceivedRequest received;
  received.chat.cache_scope = cache_scope;
  for (int i = 0; i < request.conversation().messages_size(); ++i) {
    chat::v1::Message& message = *request.mutable_conversation()->mutable_messages(i);
    for (int j = 0; j < message.parts_size(); ++j) {
      if (!message.parts(j).has_media()) continue;
      chat::v1::Media& part = *message.mutable_parts(j)->mutable_media();
      absl::StatusOr<MediaBytes::Held> held;
      if (part.has_inline_()) {
        std::string bytes = std::move(*part.mutable_inline_());
        part.mutable_inline_()->clear();
        absl::StatusOr<std::unique_ptr<MediaBytes::Room>> room = media.Reserve(bytes.size());
        if (!room.ok()) return WithField(room.status(), PartPath(i, j) + ".media.inline");
        const std::string digest = DigestOf(bytes);
        held = media.Keep(cache_scope, digest, std::move(bytes), *std::move(room));
      } else {
        held = media.FindHandle(cache_scope, part.handle());
      }
      if (!held.ok()) return WithField(held.status(), PartPath(i, j) + ".media");
      received.chat.media.push_back({(*held)->digest(), (*held)->InMemory()});
      received.media.push_back(*std::move(held));
    }
  }
  received.chat.request = std::move(request);
  return received;
}

absl::StatusOr<std::string> CacheScopeOf(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) {
  const auto [first, last] = metadata.equal_range(kScopeMetadata);
  if (first == last) return std::string();
  if (std::next(first) != last) {
    return absl::InvalidArgumentError(absl::StrCat(kScopeMetadata, " is named twice"));
  }
  if (first->second.size() > kMaxCacheScopeBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(kScopeMetadata, " is longer than ", kMaxCacheScopeBytes, " bytes"));
  }
  return std::string(first->second.data(), first->second.size());
}

}  // namespace minicpmv::router
