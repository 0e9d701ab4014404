#include "services/gateway/reply_call.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "runtime/base/tracing.h"

namespace minicpmv::gateway {
namespace {

absl::Time Now() { return Clock::Monotonic().Now(); }

}  // namespace

ReplyCall::ReplyCall(Routers& routers, std::unique_ptr<sdk::ReplyProgress> progress,
                     const Caller& caller, Receiver receiver)
    : routers_(routers),
      progress_(std::move(progress)),
      caller_(caller),
      receiver_(std::move(receiver)),
      retries_(routers.servers.options(), Now()),
      pause_(routers.loop) {}

void ReplyCall::Start() {
  server_ = &routers_.servers.InUse();
  is_broken_ = false;
  Upload(0);
}

void ReplyCall::Cancel(const absl::Status& why) {
  cancelled_ = why;
  if (upload_) upload_->Cancel();
  if (stream_) stream_->Cancel();
  pause_.cancel();
}

void ReplyCall::Upload(size_t index) {
  if (index == progress_->media()) {
    Open();
    return;
  }
  upload_ = std::make_shared<UploadCall>(
      routers_, progress_->medium(index),
      [self = shared_from_this(), index](const absl::StatusOr<std::string>& handle) {
        self->upload_ = nullptr;
        if (!handle.ok() || !self->cancelled_.ok()) {
          self->Fail(handle.status());
          return;
        }
        self->progress_->SetHandle(index, *handle);
        self->Upload(index + 1);
      });
  upload_->Start(*server_, caller_, progress_->OfferOf(index));
}

void ReplyCall::Open() {
  opened_ = Now();
  work_.context = ChildOf(caller_.trace);
  const auto entry = std::make_shared<OpenCalls::Entry>(routers_.open_calls);
  ResponseReceiver<Event> receiver;
  receiver.message = [self = shared_from_this()](Event event) {
    boost::asio::post(self->routers_.loop, [self, event = std::move(event)]() mutable {
      self->OnEvent(std::move(event));
    });
  };
  receiver.end = [self = shared_from_this(), entry](const absl::Status& status) {
    boost::asio::post(self->routers_.loop, [self, status] { self->OnEnd(status); });
  };
  stream_ = ClientStream<Event>::Start(
      [this](grpc::ClientContext* context, grpc::ClientReadReactor<Event>* reactor) {
        server_->stub->async()->StreamReply(context, &progress_->BeginAttempt(), reactor);
      },
      std::move(receiver),
      [this](grpc::ClientContext& context) {
        routers_.Introduce(context, caller_.tenant, work_.context);
      });
}

void ReplyCall::OnEvent(Event event) {
  if (event.has_start()) work_.request_id = event.start().request_id();
  if (is_broken_ || !cancelled_.ok()) return;
  switch (progress_->Judge(event)) {
    case sdk::ReplyProgress::Verdict::kDeliver:
      retries_.NoteProgress(Now());
      receiver_.event(event);
      break;
    case sdk::ReplyProgress::Verdict::kSkip:
      break;
    case sdk::ReplyProgress::Verdict::kBroken:
      is_broken_ = true;
      stream_->Cancel();
      break;
  }
}

void ReplyCall::OnEnd(const absl::Status& status) {
  stream_ = nullptr;
  TraceCall("StreamReply", opened_, kNow, work_,
            {{"error", status.ok() ? "" : absl::StatusCodeToString(status.code())}});
  if (progress_->has_ended()) {
    End(absl::OkStatus());
  } else if (is_broken_) {
    Fail(absl::UnavailableError("events of a reply did not follow each other"));
  } else {
    Fail(status.ok() ? absl::UnavailableError("a reply ended without its ending") : status);
  }
}

void ReplyCall::Fail(const absl::Status& failure) {
  if (!cancelled_.ok()) {
    End(cancelled_);
    return;
  }
  const sdk::Retries::Next next = retries_.After(failure, Now());
  if (next.leave) routers_.servers.Leave(*server_);
  const bool is_full = absl::IsResourceExhausted(failure) && !progress_->has_start();
  if (!next.at || is_full) {
    End(failure);
    return;
  }
  pause_.expires_after(absl::ToChronoNanoseconds(*next.at - Now()));
  pause_.async_wait([self = shared_from_this()](boost::system::error_code) {
    if (!self->cancelled_.ok()) {
      self->End(self->cancelled_);
    } else {
      self->Start();
    }
  });
}

void ReplyCall::End(const absl::Status& status) {
  const Receiver receiver = std::exchange(receiver_, {});
  receiver.end(status);
}

}  // namespace minicpmv::gateway
