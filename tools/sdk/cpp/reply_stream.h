#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "minicpmv/chat/v1/chat_service.grpc.pb.h"
#include "tools/sdk/cpp/attempts.h"
#include "tools/sdk/cpp/client.h"
#include "tools/sdk/cpp/reply_progress.h"
#include "tools/sdk/cpp/servers.h"

namespace minicpmv::sdk {

// One reply, event by event: a start, texts, an ending. One thread reads; any may cancel.
//
// Sequence numbers rise by one from 1, whatever broke and was resumed in between. Let go of before
// its end, the reply is cancelled.
class ReplyStream {
 public:
  // Made by Client::StreamReply.
  ReplyStream(Servers& servers, chat::v1::StreamReplyRequest request, const CallOptions& options);
  ~ReplyStream();
  ReplyStream(const ReplyStream&) = delete;
  ReplyStream& operator=(const ReplyStream&) = delete;

  // Waits for the next event; nothing after the ending. An error is final: it is returned again.
  absl::StatusOr<std::optional<chat::v1::StreamReplyResponse>> Next();

  // Ends the reply: Next returns CANCELLED, at once if it is waiting. Thread-safe.
  void Cancel() { attempts_.Cancel(); }

  // How often the stream broke and went on. Thread-safe.
  int resumptions() const { return resumptions_; }

 private:
  using Event = chat::v1::StreamReplyResponse;

  absl::Status Open();
  absl::Status UploadMedia();
  // Reads until there is something to deliver; the error with which the attempt ended, if there is
  // nothing.
  absl::StatusOr<Event> Read();
  absl::Status Close();

  Servers& servers_;
  Attempts attempts_;
  ReplyProgress progress_;

  // The present attempt.
  std::shared_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReader<Event>> reader_;

  absl::Status failure_;  // final
  std::atomic<int> resumptions_ = 0;
};

}  // namespace minicpmv::sdk
