#pragma once

#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/minicpmv/answerer.h"
#include "tools/minicpmv/chat.h"

namespace minicpmv {

// A conversation at the terminal: "> " waits for a message, answers stream, all of it is history.
// /image FILE adds a picture to the next message, /reset begins anew, Ctrl-C stops an answer,
// Ctrl-D ends. What is wrong with one message is said and forgotten.
//
// `make_answerer` is called once, before the first prompt and after Ctrl-C is taken care of.
absl::Status HoldConversation(
    const ChatOptions& options,
    absl::FunctionRef<absl::StatusOr<std::unique_ptr<Answerer>>()> make_answerer);

}  // namespace minicpmv
