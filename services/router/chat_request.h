#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "minicpmv/chat/v1/chat_service.pb.h"
#include "runtime/base/trace_context.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// A client's request, its media taken out and digested by whoever received it (not on the loop's
// thread: it takes milliseconds).
struct ChatRequest {
  // As it came, but parts with media are empty of bytes.
  chat::v1::StreamReplyRequest request;
  // One for each part with media, in the conversation's order.
  std::vector<RequestMedium> media;
  // The tenant: whose cached media, rows and prefixes may be used, and with whom it shares places
  // in the queue.
  std::string cache_scope;
  // By the loop's clock. When it has passed the reply ends with DEADLINE_EXCEEDED.
  absl::Time deadline = absl::InfiniteFuture();
  // This request in the trace of whoever asks; empty: it begins a trace of its own.
  TraceContext trace;
};

// Where a reply goes. On the loop's thread; must not block.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  // ReplyStart first, then texts, an ending last; sequence numbers rise by one.
  virtual void Send(chat::v1::StreamReplyResponse event) = 0;
  // Once, last: OK after an ending, otherwise why there is none. Details are payloads.
  virtual void End(const absl::Status& status) = 0;
};

}  // namespace minicpmv::router
