#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "minicpmv/chat/v1/chat_service.pb.h"
#include "runtime/base/trace_file.h"
#include "services/common/calls.h"
#include "services/gateway/caller.h"
#include "services/gateway/routers.h"
#include "services/gateway/upload_call.h"
#include "tools/sdk/cpp/reply_progress.h"
#include "tools/sdk/cpp/retries.h"

namespace minicpmv::gateway {

// One reply, over all the attempts that it takes: a stream that breaks is resumed at the next
// router, without a letter lost or doubled. The loop's.
//
// As the SDK's ReplyStream, but that a router which is full before the reply has begun ends it at
// once: the client is told when to come again.
class ReplyCall final : public std::enable_shared_from_this<ReplyCall> {
 public:
  using Event = chat::v1::StreamReplyResponse;
  // Told on the loop's thread; `end` once and last, OK after the event with the ending.
  struct Receiver {
    std::function<void(const Event&)> event;
    std::function<void(const absl::Status&)> end;
  };

  ReplyCall(Routers& routers, std::unique_ptr<sdk::ReplyProgress> progress, const Caller& caller,
            Receiver receiver);

  void Start();
  // The end is `why`, and still told.
  void Cancel(const absl::Status& why);

 private:
  void Upload(size_t index);
  void Open();
  void OnEvent(Event event);
  void OnEnd(const absl::Status& status);
  void Fail(const absl::Status& failure);
  void End(const absl::Status& status);

  Routers& routers_;
  const std::unique_ptr<sdk::ReplyProgress> progress_;
  const Caller caller_;
  Receiver receiver_;
  sdk::Retries retries_;
  boost::asio::steady_timer pause_;
  absl::Status cancelled_;  // why; OK: it is not

  // The present attempt.
  sdk::Servers::Server* server_ = nullptr;
  std::shared_ptr<UploadCall> upload_;
  std::shared_ptr<ClientStream<Event>> stream_;
  absl::Time opened_;  // the stream
  TracedWork work_;    // of the stream
  bool is_broken_ = false;
};

}  // namespace minicpmv::gateway
