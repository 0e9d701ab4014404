#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/model/prompt.h"
#include "tools/minicpmv/picture.h"

namespace minicpmv {

// Messages and the pictures that they show, in order.
struct Conversation {
  std::vector<Message> messages;
  std::vector<Picture> pictures;
};

// A conversation in the OpenAI chat form, as ReadMessages has it: {"messages": [...]} or the list
// alone. A picture's address is a path, relative to `folder`, or a data URI in base64.
//
// `name` stands for the file in errors, which name the field too. Errors of ReadMessages and
// ReadPicture. UNIMPLEMENTED: an address in the network.
absl::StatusOr<Conversation> ParseConversation(absl::string_view text, const std::string& name,
                                               const std::string& folder);
// From a file; its own folder is where relative paths start.
absl::StatusOr<Conversation> ReadConversation(const std::string& path);

}  // namespace minicpmv
