#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/minicpmv/conversation.h"

namespace minicpmv {

// What is asked, as the flags say it.
struct QuestionOptions {
  std::optional<std::string> text;
  std::vector<std::string> images;  // files, shown before the text
  std::string messages;             // a file with a whole conversation instead; "": none
  std::string system;               // "": the family's own
};

// The conversation that the options describe. A system message goes in front. Errors of
// ReadConversation and ReadPicture, and INVALID_ARGUMENT: --system beside a conversation that has a
// system message.
absl::StatusOr<Conversation> ReadQuestion(const QuestionOptions& options);

// All of standard input without its last line feed. OUT_OF_RANGE: more than anybody means to ask.
absl::StatusOr<std::string> ReadStandardInput();

}  // namespace minicpmv
