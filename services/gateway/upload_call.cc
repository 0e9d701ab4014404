#include "services/gateway/upload_call.h"

#include <boost/asio/post.hpp>

#include "runtime/base/clock.h"
#include "runtime/base/tracing.h"
#include "tools/sdk/cpp/upload.h"

namespace minicpmv::gateway {
namespace {

constexpr size_t kChunksAhead = 4;

}  // namespace

void UploadCall::Start(sdk::Servers::Server& server, const Caller& caller, const Request& offer) {
  opened_ = Clock::Monotonic().Now();
  work_.context = ChildOf(caller.trace);
  const auto entry = std::make_shared<OpenCalls::Entry>(routers_.open_calls);
  ResponseReceiver<Response> receiver;
  receiver.message = [self = shared_from_this()](Response response) {
    boost::asio::post(self->routers_.loop,
                      [self, response = std::move(response)] { self->OnResponse(response); });
  };
  receiver.end = [self = shared_from_this(), entry](const absl::Status& status) {
    boost::asio::post(self->routers_.loop, [self, status] { self->OnEnd(status); });
  };
  receiver.written = [self = shared_from_this()] {
    boost::asio::post(self->routers_.loop, [self] { self->SendChunks(); });
  };
  call_ = ClientBidi<Request, Response>::Start(
      [&](grpc::ClientContext* context, grpc::ClientBidiReactor<Request, Response>* reactor) {
        server.stub->async()->UploadMedia(context, reactor);
      },
      std::move(receiver),
      [&](grpc::ClientContext& context) {
        routers_.Introduce(context, caller.tenant, work_.context);
      });
  call_->Send(offer);
}

void UploadCall::OnResponse(const Response& response) {
  if (response.has_media()) {
    handle_ = response.media().handle();
  } else if (response.decision() == Response::DECISION_SEND) {
    is_sending_ = true;
    SendChunks();
  } else {
    call_->SendLast();
  }
}

void UploadCall::SendChunks() {
  if (!is_sending_) return;
  while (sent_ < bytes_.size() && call_->waiting() < kChunksAhead) {
    Request chunk = sdk::UploadChunkOf(bytes_, sent_);
    sent_ += chunk.chunk().data().size();
    if (!call_->Send(std::move(chunk))) break;  // the end says why
  }
  if (sent_ < bytes_.size()) return;
  is_sending_ = false;
  call_->SendLast();
}

void UploadCall::OnEnd(const absl::Status& status) {
  is_sending_ = false;
  TraceCall("UploadMedia", opened_, kNow, work_,
            {{"bytes", static_cast<int64_t>(sent_)},
             {"error", status.ok() ? "" : absl::StatusCodeToString(status.code())}});
  if (!status.ok()) {
    done_(status);
  } else if (handle_.empty()) {
    done_(absl::UnavailableError("the router ended an upload without a handle"));
  } else {
    done_(handle_);
  }
}

}  // namespace minicpmv::gateway
