#pragma once

#include "absl/status/status.h"
#include "tools/minicpmv/chat.h"
#include "runtime/engine/local_model.h"

namespace minicpmv {

// A conversation at the terminal: "> " waits for a message, answers stream, all of it is history.
// /image FILE adds a picture to the next message, /reset begins anew, Ctrl-C stops an answer,
// Ctrl-D ends. What is wrong with one message is said and forgotten.
absl::Status HoldConversation(const ChatOptions& options, const LocalModelOptions& model);

}  // namespace minicpmv
