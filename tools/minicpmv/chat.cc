#include "tools/minicpmv/chat.h"

#include <unistd.h>

#include <memory>
#include <utility>

#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "runtime/base/tracing.h"
#include "tools/minicpmv/answerer.h"
#include "tools/minicpmv/local_answerer.h"
#include "tools/minicpmv/model_folder.h"
#include "tools/minicpmv/output.h"
#include "tools/minicpmv/server_answerer.h"
#include "tools/minicpmv/terminal.h"

namespace minicpmv {
namespace {

absl::StatusOr<std::unique_ptr<Answerer>> MakeAnswerer(const ChatOptions& options,
                                                       const LocalModelOptions& model_options) {
  if (options.server.has_value()) {
    ASSIGN_OR_RETURN(std::unique_ptr<sdk::Client> client, ConnectTo(*options.server));
    return std::make_unique<ServerAnswerer>(std::move(client), options.reply);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<LocalModel> model, LocalModel::Load(model_options));
  return std::make_unique<LocalAnswerer>(std::move(model), options.reply);
}

absl::Status AnswerOnce(const ChatOptions& options, const Conversation& conversation,
                        Answerer& answerer) {
  const auto print = [&](absl::string_view piece) {
    return options.json ? absl::OkStatus() : WriteOutput(piece);
  };
  ASSIGN_OR_RETURN(const Answer answer, answerer.Reply(conversation, print));
  RETURN_IF_ERROR(WriteOutput(options.json ? JsonOf(answer) : "\n"));
  if (options.bill) WriteNotice(BillLineOf(answer));
  return absl::OkStatus();
}

}  // namespace

absl::Status Chat(const ChatOptions& options) {
  std::unique_ptr<Tracing> tracing;
  if (!options.trace.empty()) {
    absl::StatusOr<std::unique_ptr<Tracing>> begun =
        Tracing::To(options.trace, {.process = "chat"});
    if (!begun.ok()) return Blame("--trace", begun.status());
    tracing = *std::move(begun);
  }
  LocalModelOptions model_options = options.model;
  if (!options.server.has_value()) {
    ASSIGN_OR_RETURN(model_options.folder, ResolveModelFolder(options.model.folder));
  }

  QuestionOptions question = options.question;
  const bool is_asked = question.text.has_value() || !question.messages.empty();
  if (!is_asked && isatty(STDIN_FILENO)) {
    if (options.json) {
      return absl::InvalidArgumentError("--json: a conversation at the terminal has no JSON form");
    }
    return HoldConversation(options, [&] { return MakeAnswerer(options, model_options); });
  }
  if (!is_asked) {
    ASSIGN_OR_RETURN(question.text, ReadStandardInput());
    if (question.text->empty()) {
      return absl::InvalidArgumentError(
          "standard input: empty, and no question among the arguments");
    }
  }
  ASSIGN_OR_RETURN(const Conversation conversation, ReadQuestion(question));
  ASSIGN_OR_RETURN(const std::unique_ptr<Answerer> answerer, MakeAnswerer(options, model_options));
  return AnswerOnce(options, conversation, *answerer);
}

}  // namespace minicpmv
