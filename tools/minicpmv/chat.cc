#include "tools/minicpmv/chat.h"

#include <unistd.h>

#include <memory>

#include "runtime/base/status_macros.h"
#include "tools/minicpmv/local_reply.h"
#include "tools/minicpmv/model_folder.h"
#include "tools/minicpmv/output.h"
#include "tools/minicpmv/picture_rows.h"
#include "tools/minicpmv/reply_json.h"
#include "tools/minicpmv/terminal.h"

namespace minicpmv {
namespace {

absl::Status AnswerOnce(const ChatOptions& options, const Conversation& conversation,
                        LocalModel& model) {
  PictureRows rows(model, options.reply.max_slices, options.reply.exif);
  const auto print = [&](absl::string_view piece) {
    return options.json ? absl::OkStatus() : WriteOutput(piece);
  };
  ASSIGN_OR_RETURN(const Reply reply,
                   LocalReply(model).Run(conversation, options.reply, rows, print));
  RETURN_IF_ERROR(WriteOutput(options.json ? JsonOf(reply) : "\n"));
  if (options.bill) WriteNotice(BillLineOf(reply));
  return absl::OkStatus();
}

}  // namespace

absl::Status Chat(const ChatOptions& options) {
  LocalModelOptions model_options = options.model;
  ASSIGN_OR_RETURN(model_options.folder, ResolveModelFolder(options.model.folder));

  QuestionOptions question = options.question;
  const bool is_asked = question.text.has_value() || !question.messages.empty();
  if (!is_asked && isatty(STDIN_FILENO)) {
    if (options.json) {
      return absl::InvalidArgumentError("--json: a conversation at the terminal has no JSON form");
    }
    return HoldConversation(options, model_options);
  }
  if (!is_asked) {
    ASSIGN_OR_RETURN(question.text, ReadStandardInput());
    if (question.text->empty()) {
      return absl::InvalidArgumentError(
          "standard input: empty, and no question among the arguments");
    }
  }
  ASSIGN_OR_RETURN(const Conversation conversation, ReadQuestion(question));
  ASSIGN_OR_RETURN(const std::unique_ptr<LocalModel> model, LocalModel::Load(model_options));
  return AnswerOnce(options, conversation, *model);
}

}  // namespace minicpmv
