#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "minicpmv/chat/v1/chat_service.pb.h"

namespace minicpmv::gateway {

// What the body of POST /v1/chat/completions asks for.
struct ChatRequest {
  chat::v1::StreamReplyRequest reply;
  bool stream = false;
  bool include_usage = false;  // in a last chunk of a stream
};

// Reads OpenAI's form, and the fields beside it that users of vLLM know. Pictures are data URIs, or
// "media:HANDLE" with what UploadMedia returned. Unknown fields are ignored.
//
// Errors name the field (JsonObject::FieldOf). INVALID_ARGUMENT: another form. UNIMPLEMENTED: a
// field that is known, and asks for what is not there. Ranges that the router checks are left to
// it.
absl::StatusOr<ChatRequest> ReadChatRequest(absl::string_view body);

}  // namespace minicpmv::gateway
