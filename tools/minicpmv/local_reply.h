#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tools/minicpmv/bill.h"
#include "tools/minicpmv/conversation.h"
#include "runtime/engine/local_model.h"
#include "tools/minicpmv/picture_rows.h"
#include "tools/minicpmv/reply_options.h"

namespace minicpmv {

enum class ReplyEnd { kStop, kLength, kCancelled };

struct Reply {
  std::string text;             // the pieces that were sent, joined
  std::vector<int32_t> tokens;  // an ending stop id, too
  ReplyEnd end = ReplyEnd::kStop;
  int64_t prompt_tokens = 0;
  uint64_t seed = 0;
  Bill bill;
};

// What a trace wants to see beside the reply.
struct ReplyWatch {
  std::vector<int32_t> forced_tokens;
  int64_t last_prompt_logits =
      0;  // logits of so many last positions of the prompt, and of all after it
  // On the engine's thread, in rising order of positions.
  std::function<void(int64_t position, absl::Span<const float> logits)> logits;
};

// The life of one question: plans, prompt, rows, tokens, text. The media may be encoded while the
// text before them is being computed. For one thread, but Cancel.
class LocalReply {
 public:
  explicit LocalReply(LocalModel& model) : model_(model) {}

  // The prompt of a conversation: everything that can be wrong with it is told before any pixel is
  // decoded. Errors of PictureRows::Plan and PromptBuilder; INVALID_ARGUMENT: a longer prompt than
  // the options or the model allow.
  absl::StatusOr<Prompt> Lay(const Conversation& conversation, const ReplyOptions& options,
                             PictureRows& rows) const;

  // Answers, handing each piece of text to `sink` as soon as it is certain. A sink that fails ends
  // the reply with its status. ABORTED never comes out: who is preempted goes on from its tokens.
  absl::StatusOr<Reply> Run(const Conversation& conversation, const ReplyOptions& options,
                            PictureRows& rows,
                            absl::FunctionRef<absl::Status(absl::string_view)> sink,
                            const ReplyWatch* watch = nullptr);

  // Ends a reply that is running, from any thread: it comes out as it is. The next Run starts
  // afresh.
  void Cancel();

 private:
  class Flow;

  LocalModel& model_;
  std::atomic<bool> cancelled_ = false;
  std::atomic<SequenceId> running_ = -1;
};

}  // namespace minicpmv
