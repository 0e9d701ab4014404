#include "tools/minicpmv/question.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "runtime/text/utf8.h"

namespace minicpmv {
namespace {

constexpr size_t kMaxInputBytes = size_t{64} << 20;

// A file's text has been checked by whoever read its JSON.
absl::Status CheckUtf8(absl::string_view what, absl::string_view text) {
  const std::optional<size_t> place = FindInvalidUtf8(text);
  if (!place.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " is not UTF-8 at byte ", *place));
}

}  // namespace

absl::StatusOr<Conversation> ReadQuestion(const QuestionOptions& options) {
  RETURN_IF_ERROR(CheckUtf8("the question", options.text.value_or("")));
  RETURN_IF_ERROR(CheckUtf8("--system", options.system));
  Conversation conversation;
  if (!options.messages.empty()) {
    absl::StatusOr<Conversation> read = ReadConversation(options.messages);
    if (!read.ok()) return Blame("--messages", read.status());
    conversation = *std::move(read);
  } else {
    Message message = {"user", {}};
    for (const std::string& path : options.images) {
      absl::StatusOr<Picture> picture = ReadPicture(path);
      if (!picture.ok()) return Blame("--image", picture.status());
      conversation.pictures.push_back(*std::move(picture));
      message.parts.push_back({"", /*is_image=*/true});
    }
    if (options.text.has_value()) message.parts.push_back({*options.text});
    conversation.messages.push_back(std::move(message));
  }
  if (options.system.empty()) return conversation;
  if (!conversation.messages.empty() && conversation.messages[0].role == "system") {
    return absl::InvalidArgumentError(
        absl::StrCat("--system: ", options.messages, " has a system message of its own"));
  }
  conversation.messages.insert(conversation.messages.begin(),
                               Message{"system", {{options.system}}});
  return conversation;
}

absl::StatusOr<std::string> ReadStandardInput() {
  std::string text;
  char chunk[1 << 16];
  while (true) {
    const ssize_t count = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (count < 0) {
      if (errno == EINTR) continue;
      return absl::InvalidArgumentError(absl::StrCat("standard input: ", std::strerror(errno)));
    }
    if (count == 0) break;
    text.append(chunk, static_cast<size_t>(count));
    if (text.size() > kMaxInputBytes) {
      return absl::OutOfRangeError(
          absl::StrCat("standard input: the question is longer than ", kMaxInputBytes, " bytes"));
    }
  }
  absl::string_view trimmed = text;
  if (absl::ConsumeSuffix(&trimmed, "\n")) absl::ConsumeSuffix(&trimmed, "\r");
  return std::string(trimmed);
}

}  // namespace minicpmv
