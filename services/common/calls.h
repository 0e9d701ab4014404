#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_callback.h>
#include <grpcpp/support/server_callback.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/check.h"
#include "services/common/status_proto.h"

namespace minicpmv {

// gRPC's callback API, wrapped once. What is said here holds for all kinds of stream:
// messages are sent from any thread, queue without a bound of their own (whoever sends bounds what
// it sends: by a reply's length, by credit) and leave in order; what arrives is told on gRPC's
// threads, one call at a time and in order, so a receiver must not block. gRPC's own handles are
// shared_ptrs here because a call lives until gRPC has told its end, whoever has lost interest
// before.

// --- The answering side.

// Responses to one call: a server stream's, or that half of a bidirectional one.
template <typename Response>
class ResponseStream {
 public:
  virtual ~ResponseStream() = default;

  // False: the call has ended; the message is dropped.
  virtual bool Send(Response response) = 0;
  // Ends the call after what was sent before. Only the first one counts. Whoever answers calls it
  // in the end, also after the client has gone.
  virtual void End(const absl::Status& status) = 0;
  // Calls `gone` once, on a gRPC thread, when the client has cancelled, its deadline has passed or
  // its connection broke; at once if that has happened already. It may come while somebody calls
  // End, but not after the client has the end. It may be set once.
  virtual void OnGone(absl::AnyInvocable<void()> gone) = 0;
  // Messages that have not left yet: who sends without an end of its own looks here first.
  virtual size_t waiting() const = 0;
};

namespace calls_internal {

// One message at a time, in order, then the end: the part that all our reactors share. Reactor has
// StartWrite(const Message*) and a way to finish.
template <typename Message>
class Outbox {
 public:
  // What the caller has to do next, outside the lock.
  enum class Next { kNothing, kWrite, kFinish };

  bool Push(Message message, Next* next) {
    const std::lock_guard<std::mutex> lock(mutex_);
    *next = Next::kNothing;
    if (closed_) return false;
    messages_.push_back(std::move(message));
    if (!writing_) {
      writing_ = true;
      *next = Next::kWrite;
    }
    return true;
  }
  // After what was pushed before.
  Next Close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return Next::kNothing;
    closed_ = true;
    if (writing_ || finished_) return Next::kNothing;
    finished_ = true;
    return Next::kFinish;
  }
  // A write has ended. `ok` false: nothing can be written any more.
  Next Written(bool ok) {
    const std::lock_guard<std::mutex> lock(mutex_);
    messages_.pop_front();
    if (!ok) {
      messages_.clear();
      broken_ = true;
    }
    if (!messages_.empty()) return Next::kWrite;
    writing_ = false;
    if (!(closed_ || broken_) || finished_) return Next::kNothing;
    closed_ = true;
    finished_ = true;
    return Next::kFinish;
  }
  // Pushed and not written yet.
  size_t waiting() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return messages_.size();
  }
  const Message& front() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return messages_.front();
  }

 private:
  mutable std::mutex mutex_;
  std::deque<Message> messages_;
  bool writing_ = false, closed_ = false, broken_ = false, finished_ = false;
};

// Shared by the two kinds of answering reactors. `Reactor` is grpc::ServerWriteReactor<Response> or
// grpc::ServerBidiReactor<Request, Response>.
template <typename Reactor, typename Response>
class Answering : public Reactor, public ResponseStream<Response> {
 public:
  bool Send(Response response) final {
    typename Outbox<Response>::Next next;
    const bool sent = outbox_.Push(std::move(response), &next);
    Do(next);
    return sent;
  }
  void End(const absl::Status& status) final {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!status_) status_ = status;
    }
    Do(outbox_.Close());
  }
  size_t waiting() const final { return outbox_.waiting(); }
  void OnGone(absl::AnyInvocable<void()> gone) final {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      CHECK(!gone_);
      if (!is_gone_) {
        gone_ = std::move(gone);
        return;
      }
    }
    gone();
  }

  void OnWriteDone(bool ok) final { Do(outbox_.Written(ok)); }
  void OnCancel() final {
    absl::AnyInvocable<void()> gone;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_gone_ = true;
      gone = std::move(gone_);
      gone_ = nullptr;
    }
    if (gone) gone();
  }
  void OnDone() final {
    // A write may have failed before gRPC says that the client has gone.
    bool is_unended;
    absl::AnyInvocable<void()> gone;  // may hold what holds us
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_unended = !status_;
      is_gone_ = true;
      gone = std::move(gone_);
      gone_ = nullptr;
    }
    if (gone && is_unended) gone();
    OnFinished();
    const std::shared_ptr<Answering> self = std::move(self_);
  }

  // gRPC's share of the ownership.
  void KeepUntilDone(std::shared_ptr<Answering> self) { self_ = std::move(self); }

 protected:
  virtual void OnFinished() {}

 private:
  void Do(typename Outbox<Response>::Next next) {
    if (next == Outbox<Response>::Next::kWrite) {
      this->StartWrite(&outbox_.front());
    } else if (next == Outbox<Response>::Next::kFinish) {
      absl::Status status;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        status = status_.value_or(absl::CancelledError("the client has gone"));
      }
      this->Finish(ToGrpc(status));
    }
  }

  Outbox<Response> outbox_;
  std::mutex mutex_;
  std::optional<absl::Status> status_;
  absl::AnyInvocable<void()> gone_;
  bool is_gone_ = false;
  std::shared_ptr<Answering> self_;
};

}  // namespace calls_internal

// Answers a server-streaming RPC: return Reactor() from the generated method.
template <typename Response>
class ServerStream final
    : public calls_internal::Answering<grpc::ServerWriteReactor<Response>, Response> {
 public:
  // Lives until gRPC is done with it and the caller has let go.
  static std::shared_ptr<ServerStream> Create() {
    auto stream = std::make_shared<ServerStream>();
    stream->KeepUntilDone(stream);
    return stream;
  }
  grpc::ServerWriteReactor<Response>* reactor() { return this; }
};

// Answers a bidirectional RPC.
template <typename Request, typename Response>
class ServerBidi final
    : public calls_internal::Answering<grpc::ServerBidiReactor<Request, Response>, Response> {
 public:
  // A request, or nothing: the client has sent its last one (or has gone: then OnGone tells, too).
  // No further request is read before the receiver returns.
  using Receiver = std::function<void(std::optional<Request>)>;

  static std::shared_ptr<ServerBidi> Create() {
    auto stream = std::make_shared<ServerBidi>();
    stream->KeepUntilDone(stream);
    return stream;
  }
  grpc::ServerBidiReactor<Request, Response>* reactor() { return this; }

  // Starts reading. Called once. The receiver is let go of when the call is over.
  void Receive(Receiver receiver) {
    receiver_ = std::move(receiver);
    this->StartRead(&request_);
  }

 private:
  void OnReadDone(bool ok) final {
    if (!ok) {
      receiver_(std::nullopt);
      return;
    }
    receiver_(std::move(request_));
    request_ = Request();
    this->StartRead(&request_);
  }
  void OnFinished() final { receiver_ = nullptr; }

  Receiver receiver_;
  Request request_;
};

// Answers a unary RPC: return reactor() from the generated method, and End once, from any thread.
template <typename Response>
class ServerUnary final : public grpc::ServerUnaryReactor {
 public:
  // `response` is the generated method's: gRPC's until the end.
  static std::shared_ptr<ServerUnary> Create(Response* response) {
    auto call = std::make_shared<ServerUnary>();
    call->response_ = response;
    call->self_ = call;
    return call;
  }
  grpc::ServerUnaryReactor* reactor() { return this; }

  // Only the first one counts. The response is used where there is one.
  void End(absl::StatusOr<Response> response) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (is_ended_) return;
      is_ended_ = true;
    }
    if (response.ok()) *response_ = *std::move(response);
    this->Finish(ToGrpc(response.status()));
  }
  // As ResponseStream::OnGone.
  void OnGone(absl::AnyInvocable<void()> gone) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      CHECK(!gone_);
      if (!is_gone_) {
        gone_ = std::move(gone);
        return;
      }
    }
    gone();
  }

  void OnCancel() override {
    absl::AnyInvocable<void()> gone;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_gone_ = true;
      gone = std::move(gone_);
      gone_ = nullptr;
    }
    if (gone) gone();
  }
  void OnDone() override {
    absl::AnyInvocable<void()> gone;  // may hold what holds us
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      gone = std::move(gone_);
      gone_ = nullptr;
    }
    const std::shared_ptr<ServerUnary> self = std::move(self_);
  }

 private:
  Response* response_ = nullptr;
  std::mutex mutex_;
  bool is_ended_ = false, is_gone_ = false;  // guarded by mutex_
  absl::AnyInvocable<void()> gone_;          // guarded by mutex_
  std::shared_ptr<ServerUnary> self_;
};

// Answers a unary RPC that is decided already: `response` has been filled in.
inline grpc::ServerUnaryReactor* AnswerAtOnce(grpc::CallbackServerContext* context,
                                              const absl::Status& status = absl::OkStatus()) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

// --- The asking side.

// A call that is open at another process: requests go out, what comes back is told.
template <typename Request>
class RequestStream {
 public:
  virtual ~RequestStream() = default;
  // False: the call has ended; the message is dropped.
  virtual bool Send(Request request) = 0;
  // No more requests.
  virtual void SendLast() = 0;
  // Gives the call up; its end is still told (CANCELLED).
  virtual void Cancel() = 0;
  // Messages that have not left yet.
  virtual size_t waiting() const = 0;
};

// Where responses of a call go. `message` and `end` are told on gRPC's threads, one at a time;
// `end` once, last, when the call holds its channel no more: whoever made the channel keeps it
// until then, for gRPC does not bear that one of its own threads ends the last channel of a
// process.
template <typename Response>
struct ResponseReceiver {
  std::function<void(Response)> message;
  std::function<void(const absl::Status&)> end;
  // May be empty. A bidirectional call's: a request has left, or will not any more. Told on gRPC's
  // threads, possibly beside the others, never after `end`.
  std::function<void()> written = nullptr;
};

// A bidirectional call, or with SendLast at once a server stream's.
template <typename Request, typename Response>
class ClientBidi final : public grpc::ClientBidiReactor<Request, Response>,
                         public RequestStream<Request> {
 public:
  // start(context, reactor) calls the stub's async method: stub->async()->Deliver(context,
  // reactor). `context` may be given metadata and a deadline before by `prepare`.
  static std::shared_ptr<ClientBidi> Start(
      std::function<void(grpc::ClientContext*, grpc::ClientBidiReactor<Request, Response>*)> start,
      ResponseReceiver<Response> receiver,
      const std::function<void(grpc::ClientContext&)>& prepare = nullptr) {
    auto call = std::make_shared<ClientBidi>();
    call->self_ = call;
    call->receiver_ = std::move(receiver);
    if (prepare) prepare(call->context_);
    start(&call->context_, call.get());
    // Held from the start: so that writes may begin at any later time.
    call->AddHold();
    call->StartRead(&call->response_);
    call->StartCall();
    return call;
  }

  bool Send(Request request) override {
    typename Out::Next next;
    const bool sent = outbox_.Push(std::move(request), &next);
    Do(next);
    return sent;
  }
  void SendLast() override { Do(outbox_.Close()); }
  void Cancel() override { context_.TryCancel(); }
  size_t waiting() const override { return outbox_.waiting(); }

  void OnWriteDone(bool ok) override {
    Do(outbox_.Written(ok));
    if (receiver_.written) receiver_.written();
  }
  void OnReadDone(bool ok) override {
    if (!ok) {
      // The call is over, or will be: whatever waits to be written is dropped.
      Do(outbox_.Close());
      return;
    }
    receiver_.message(std::move(response_));
    response_ = Response();
    this->StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    const ResponseReceiver<Response> receiver = std::move(receiver_);
    const absl::Status end = FromGrpc(status);
    self_ = nullptr;  // may be the end of this
    receiver.end(end);
  }

 private:
  using Out = calls_internal::Outbox<Request>;
  void Do(typename Out::Next next) {
    if (next == Out::Next::kWrite) {
      this->StartWrite(&outbox_.front());
    } else if (next == Out::Next::kFinish) {
      this->StartWritesDone();
      this->RemoveHold();
    }
  }

  grpc::ClientContext context_;
  ResponseReceiver<Response> receiver_;
  Out outbox_;
  Response response_;
  std::shared_ptr<ClientBidi> self_;
};

// A server-streaming call.
template <typename Response>
class ClientStream final : public grpc::ClientReadReactor<Response> {
 public:
  // start(context, reactor) calls the stub's async method; the request that it names has to live
  // until Start returns, which is when it is written.
  static std::shared_ptr<ClientStream> Start(
      std::function<void(grpc::ClientContext*, grpc::ClientReadReactor<Response>*)> start,
      ResponseReceiver<Response> receiver,
      const std::function<void(grpc::ClientContext&)>& prepare = nullptr) {
    auto call = std::make_shared<ClientStream>();
    call->self_ = call;
    call->receiver_ = std::move(receiver);
    if (prepare) prepare(call->context_);
    start(&call->context_, call.get());
    call->StartRead(&call->response_);
    call->StartCall();
    return call;
  }

  // Gives the call up; its end is still told (CANCELLED).
  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    receiver_.message(std::move(response_));
    response_ = Response();
    this->StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    const ResponseReceiver<Response> receiver = std::move(receiver_);
    const absl::Status end = FromGrpc(status);
    self_ = nullptr;  // may be the end of this
    receiver.end(end);
  }

 private:
  grpc::ClientContext context_;
  ResponseReceiver<Response> receiver_;
  Response response_;
  std::shared_ptr<ClientStream> self_;
};

// A unary call.
template <typename Request, typename Response>
class ClientUnary final {
 public:
  // start(context, request, response, done) calls the stub's async method with just these. `end` is
  // told once, on a gRPC thread.
  static std::shared_ptr<ClientUnary> Start(
      const std::function<void(grpc::ClientContext*, const Request*, Response*,
                               std::function<void(grpc::Status)>)>& start,
      Request request, std::function<void(absl::StatusOr<Response>)> end,
      const std::function<void(grpc::ClientContext&)>& prepare = nullptr) {
    auto call = std::make_shared<ClientUnary>();
    call->request_ = std::move(request);
    if (prepare) prepare(call->context_);
    start(&call->context_, &call->request_, &call->response_,
          [call, end = std::move(end)](const grpc::Status& status) mutable {
            absl::StatusOr<Response> result = std::move(call->response_);
            if (!status.ok()) result = FromGrpc(status);
            call = nullptr;
            end(std::move(result));
          });
    return call;
  }

  // Gives the call up; its end is still told (CANCELLED).
  void Cancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  Request request_;
  Response response_;
};

}  // namespace minicpmv
