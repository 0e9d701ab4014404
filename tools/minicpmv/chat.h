#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "runtime/engine/local_model.h"
#include "tools/minicpmv/question.h"
#include "tools/minicpmv/reply_options.h"
#include "tools/minicpmv/server_access.h"

namespace minicpmv {

struct ChatOptions {
  LocalModelOptions model;
  QuestionOptions question;
  ReplyOptions reply;
  bool json = false;                   // one object instead of the stream
  bool bill = false;                   // a line on standard error after the answer
  std::string trace;                   // the file for spans; "": none
  std::optional<ServerAccess> server;  // who answers; unset: this process, with the model
};

// Answers one question, which may come through a pipe; without any, and with a terminal on standard
// input, holds a conversation.
absl::Status Chat(const ChatOptions& options);

}  // namespace minicpmv
