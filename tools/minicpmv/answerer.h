#pragma once

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tools/minicpmv/answer.h"
#include "tools/minicpmv/conversation.h"

namespace minicpmv {

// Whoever answers: this process, or a server. For one thread, but Cancel.
class Answerer {
 public:
  virtual ~Answerer() = default;

  // Whether the last picture of a conversation can be shown; tells early what is wrong with it.
  virtual absl::Status CheckLastPicture(const Conversation& conversation) = 0;

  // Answers, handing each piece of text to `sink` as soon as it is certain. A sink that fails ends
  // the answer with its status. After Cancel it comes out as far as it got.
  virtual absl::StatusOr<Answer> Reply(const Conversation& conversation,
                                       absl::FunctionRef<absl::Status(absl::string_view)> sink) = 0;

  // Ends the answer that is being given. Thread-safe.
  virtual void Cancel() = 0;

  // What is remembered of the conversation's pictures is of no use any more.
  virtual void Forget() = 0;
};

}  // namespace minicpmv
