#pragma once

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/json_file.h"
#include "runtime/model/prompt.h"

namespace minicpmv {

// Is told each picture of a conversation, in order: `place.String(key)` is its address, and what
// else `place` holds belongs to it. Its errors end the reading.
using PictureReader =
    absl::FunctionRef<absl::Status(const JsonObject& place, absl::string_view key)>;

// The "messages" of a conversation in the OpenAI chat form. A message is {"role", "content"};
// content is a string or a list of parts: {"type": "text", "text"}, {"type": "image_url",
// "image_url": {"url"}}, or, in short, {"text"} and {"image"}. Roles are not looked at.
//
// Errors name the field. INVALID_ARGUMENT: another form, or too many pictures. UNIMPLEMENTED: a
// part of another type.
absl::StatusOr<std::vector<Message>> ReadMessages(const JsonObject& conversation,
                                                  PictureReader on_picture);

}  // namespace minicpmv
