#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tools/minicpmv/command_line/model_flags.h"
#include "tools/minicpmv/question.h"
#include "tools/minicpmv/reply_options.h"

namespace minicpmv {

// Flags of chat and trace, before they become options.
struct ReplyFlags {
  ModelFlags model;
  QuestionOptions question;
  ReplyOptions reply;
  bool no_image_ids = false;
  std::string exif = "apply";

  ReplyOptions ToReply() const;
};

void AddReplyFlags(CLI::App& app, ReplyFlags& flags);

}  // namespace minicpmv
