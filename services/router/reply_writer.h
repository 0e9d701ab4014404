#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "minicpmv/chat/v1/chat_service.pb.h"
#include "runtime/text/reply_text.h"
#include "services/router/chat_request.h"
#include "services/router/router_model.h"

namespace minicpmv::router {

// One reply on its way to the client: tokens in, numbered events out. Goes on exactly where a
// broken stream ended, whichever router began it.
class ReplyWriter {
 public:
  // INVALID_ARGUMENT names the field: stop texts that make no sense, a resumption that cannot be of
  // this reply. Model and sink outlive this.
  static absl::StatusOr<ReplyWriter> Create(const chat::v1::StreamReplyRequest& request,
                                            const RouterModel& model, ReplySink& sink);

  // The first event.
  void Start(const std::string& request_id, const std::string& model_name, uint64_t seed);
  // Tokens that were chosen; those behind the end of the reply are left out. One event.
  void Push(absl::Span<const uint32_t> tokens);
  // The rest of the text, then the last event.
  void Finish(chat::v1::ReplyEnding ending);

  // All that were generated, an ending stop id included; none of them is prompt.
  const std::vector<uint32_t>& tokens() const { return tokens_; }
  // A stop id or a stop text has come.
  bool has_stopped() const { return has_stop_id_ || has_stop_text(); }
  bool has_stop_text() const { return text_.stopped(); }

 private:
  ReplyWriter(const RouterModel& model, ReplyText text, ReplySink& sink)
      : model_(&model), text_(std::move(text)), sink_(&sink) {}
  absl::Status Repeat(const chat::v1::Resume& resume);
  // What a token adds to the text that may be sent.
  std::string Take(uint32_t token);
  void SendText(std::string text, absl::Span<const uint32_t> tokens);
  chat::v1::StreamReplyResponse NextEvent();

  const RouterModel* model_;
  ReplyText text_;
  ReplySink* sink_;
  std::vector<uint32_t> tokens_;
  bool has_stop_id_ = false;
  uint64_t sequence_ = 0;   // of the last event
  size_t known_bytes_ = 0;  // of text to come that the client has already
  std::string waiting_;     // text that the client does not have, though it has the tokens
};

}  // namespace minicpmv::router
