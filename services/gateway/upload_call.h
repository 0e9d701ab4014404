#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "minicpmv/chat/v1/chat_service.grpc.pb.h"
#include "runtime/base/trace_file.h"
#include "services/common/calls.h"
#include "services/gateway/caller.h"
#include "services/gateway/routers.h"

namespace minicpmv::gateway {

// Brings a medium to a router, a few chunks ahead of what has left. The loop's.
class UploadCall final : public std::enable_shared_from_this<UploadCall> {
 public:
  using Done = std::function<void(absl::StatusOr<std::string> handle)>;

  // `bytes` live until `done` was called, which is once, on the loop's thread.
  UploadCall(Routers& routers, absl::string_view bytes, Done done)
      : routers_(routers), bytes_(bytes), done_(std::move(done)) {}

  void Start(sdk::Servers::Server& server, const Caller& caller,
             const chat::v1::UploadMediaRequest& offer);
  // `done` is told CANCELLED.
  void Cancel() { call_->Cancel(); }

 private:
  using Request = chat::v1::UploadMediaRequest;
  using Response = chat::v1::UploadMediaResponse;

  void OnResponse(const Response& response);
  void SendChunks();
  void OnEnd(const absl::Status& status);

  Routers& routers_;
  const absl::string_view bytes_;
  const Done done_;
  std::shared_ptr<ClientBidi<Request, Response>> call_;
  bool is_sending_ = false;
  size_t sent_ = 0;  // bytes
  absl::Time opened_;
  TracedWork work_;
  std::string handle_;
};

}  // namespace minicpmv::gateway
