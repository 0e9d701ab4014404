#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "services/common/calls.h"
#include "services/router/chat_request.h"
#include "services/router/loop.h"
#include "services/router/media_bytes.h"
#include "services/router/router_metrics.h"

namespace minicpmv::router {

// One reply in the metrics, from its arrival to its end, which is counted once. Made on any thread,
// then the loop's.
class ReplyRecord {
 public:
  ReplyRecord(RouterMetrics& metrics, Loop& loop, absl::Time deadline, bool is_stream);
  // The client has gone, or has had no answer until its deadline.
  ~ReplyRecord();
  ReplyRecord(const ReplyRecord&) = delete;
  ReplyRecord& operator=(const ReplyRecord&) = delete;

  void NoteTokens(int tokens);
  void End(const absl::Status& status);

 private:
  RouterMetrics& metrics_;
  Loop& loop_;
  const absl::Time arrival_, deadline_;
  const bool is_stream_;
  bool has_ended_ = false;
  int tokens_ = 0;
  absl::Time first_token_, last_token_;
};

// What a reply holds on to until its end.
struct ReplyKeeping {
  std::unique_ptr<ReplyRecord> record;
  std::vector<MediaBytes::Held> media;
};

// Writes events to a stream. While the reader has not taken what was written, texts are joined, and
// events numbered as they leave.
class StreamSink final : public ReplySink {
 public:
  using Stream = ResponseStream<chat::v1::StreamReplyResponse>;

  // Numbers go on after `sequence`.
  StreamSink(std::shared_ptr<Stream> stream, uint64_t sequence, ReplyKeeping keeping);
  ~StreamSink() override;
  void Send(chat::v1::StreamReplyResponse event) override;
  void End(const absl::Status& status) override;

 private:
  void Write(chat::v1::StreamReplyResponse event);
  void WriteJoined();

  const std::shared_ptr<Stream> stream_;
  uint64_t sequence_;
  ReplyKeeping keeping_;
  std::string request_id_;
  std::optional<chat::v1::StreamReplyResponse> joined_;
  bool has_ended_ = false;
};

// Joins events to one response.
class WholeReplySink final : public ReplySink {
 public:
  using Call = ServerUnary<chat::v1::GenerateReplyResponse>;

  WholeReplySink(std::shared_ptr<Call> call, ReplyKeeping keeping)
      : call_(std::move(call)), keeping_(std::move(keeping)) {}
  ~WholeReplySink() override;
  void Send(chat::v1::StreamReplyResponse event) override;
  void End(const absl::Status& status) override;

 private:
  const std::shared_ptr<Call> call_;
  ReplyKeeping keeping_;
  chat::v1::GenerateReplyResponse response_;
};

}  // namespace minicpmv::router
