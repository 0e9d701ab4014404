#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "minicpmv/chat/v1/chat_service.pb.h"
#include "services/gateway/remote_hosts.h"

namespace minicpmv::gateway {

// A picture that is not in the body, by what the body calls it, and where it belongs.
struct PictureReference {
  std::string name;           // the id of a file that was uploaded, or an address
  bool is_remote = false;     // that is the latter
  int message = 0, part = 0;  // of the conversation
  std::string field;          // of the body: "messages[0].content[1].image_url.url"
};

// What the body of POST /v1/chat/completions asks for.
struct ChatRequest {
  chat::v1::StreamReplyRequest reply;
  std::vector<PictureReference> references;  // their media have no source yet
  bool stream = false;
  bool include_usage = false;  // in a last chunk of a stream
};

// Reads OpenAI's form, and the fields beside it that users of vLLM know. Pictures are data URIs,
// "file-..." with the id of a file, "media:HANDLE" with what UploadMedia returned, or addresses of
// `hosts`. Unknown
// fields are ignored.
//
// Errors name the field (JsonObject::FieldOf). INVALID_ARGUMENT: another form. UNIMPLEMENTED: a
// field that is known, and asks for what is not there. Ranges that the router checks are left to
// it.
absl::StatusOr<ChatRequest> ReadChatRequest(absl::string_view body, const RemoteHosts& hosts);

}  // namespace minicpmv::gateway
