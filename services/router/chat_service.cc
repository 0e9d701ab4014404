#include "services/router/chat_service.h"

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "runtime/base/status_macros.h"
#include "services/common/calls.h"
#include "services/common/trace_metadata.h"
#include "services/router/reply_sinks.h"
#include "services/router/request_check.h"
#include "services/router/upload.h"

namespace minicpmv::router {
namespace {

// What of a call the loop knows: which request it became, and whether that is still wanted.
struct Asking {
  std::optional<Router::RequestNumber> number;
  bool is_gone = false;
};

absl::Time DeadlineOf(const grpc::CallbackServerContext& context, const Loop& loop) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return loop.Now() + absl::FromChrono(deadline - std::chrono::system_clock::now());
}

// The text and options of a request, media without a copy of their own.
absl::StatusOr<ReceivedRequest> Receive(const grpc::CallbackServerContext& context,
                                        chat::v1::StreamReplyRequest request, absl::Time deadline,
                                        MediaBytes& media) {
  ASSIGN_OR_RETURN(const std::string scope, CacheScopeOf(context.client_metadata()));
  ASSIGN_OR_RETURN(ReceivedRequest received, ReceiveRequest(std::move(request), scope, media));
  received.chat.deadline = deadline;
  received.chat.trace = TraceContextOf(context.client_metadata());
  return received;
}

// `Call` can be told when its client has gone.
template <typename Call>
void Ask(Router& router, Loop& loop, Call& call, ChatRequest request,
         std::unique_ptr<ReplySink> sink) {
  const auto asking = std::make_shared<Asking>();
  call.OnGone([&router, &loop, asking] {
    loop.Post([&router, asking] {
      asking->is_gone = true;
      if (asking->number) router.Cancel(*asking->number);
    });
  });
  loop.Post([&router, asking, request = std::move(request), sink = std::move(sink)]() mutable {
    if (asking->is_gone) return;
    asking->number = router.Start(std::move(request), std::move(sink));
  });
}

}  // namespace

ChatService::ChatService(Router& router, Loop& loop, MediaBytes& media, RouterMetrics& metrics,
                         absl::Duration upload_patience)
    : router_(router),
      loop_(loop),
      media_(media),
      metrics_(metrics),
      upload_patience_(upload_patience) {}

grpc::ServerWriteReactor<chat::v1::StreamReplyResponse>* ChatService::StreamReply(
    grpc::CallbackServerContext* context, const chat::v1::StreamReplyRequest* request) {
  const absl::Time deadline = DeadlineOf(*context, loop_);
  auto record = std::make_unique<ReplyRecord>(metrics_, loop_, deadline, /*is_stream=*/true);
  auto stream = ServerStream<chat::v1::StreamReplyResponse>::Create();
  absl::StatusOr<ReceivedRequest> received = Receive(*context, *request, deadline, media_);
  if (!received.ok()) {
    record->End(received.status());
    stream->End(received.status());
    return stream->reactor();
  }
  const uint64_t sequence = received->chat.request.resume().sequence();
  auto sink = std::make_unique<StreamSink>(
      stream, sequence, ReplyKeeping{std::move(record), std::move(received->media)});
  Ask(router_, loop_, *stream, std::move(received->chat), std::move(sink));
  return stream->reactor();
}

grpc::ServerUnaryReactor* ChatService::GenerateReply(grpc::CallbackServerContext* context,
                                                     const chat::v1::GenerateReplyRequest* request,
                                                     chat::v1::GenerateReplyResponse* response) {
  const absl::Time deadline = DeadlineOf(*context, loop_);
  auto record = std::make_unique<ReplyRecord>(metrics_, loop_, deadline, /*is_stream=*/false);
  const auto call = ServerUnary<chat::v1::GenerateReplyResponse>::Create(response);
  chat::v1::StreamReplyRequest streamed;
  streamed.set_model(request->model());
  *streamed.mutable_conversation() = request->conversation();
  *streamed.mutable_options() = request->options();
  absl::StatusOr<ReceivedRequest> received =
      Receive(*context, std::move(streamed), deadline, media_);
  if (!received.ok()) {
    record->End(received.status());
    call->End(received.status());
    return call->reactor();
  }
  auto sink = std::make_unique<WholeReplySink>(
      call, ReplyKeeping{std::move(record), std::move(received->media)});
  Ask(router_, loop_, *call, std::move(received->chat), std::move(sink));
  return call->reactor();
}

grpc::ServerBidiReactor<chat::v1::UploadMediaRequest, chat::v1::UploadMediaResponse>*
ChatService::UploadMedia(grpc::CallbackServerContext* context) {
  auto stream = Upload::Stream::Create();
  absl::StatusOr<std::string> scope = CacheScopeOf(context->client_metadata());
  if (!scope.ok()) {
    stream->End(scope.status());
    return stream->reactor();
  }
  std::make_shared<Upload>(router_, loop_, media_, upload_patience_, *std::move(scope),
                           TraceContextOf(context->client_metadata()), stream)
      ->Start();
  return stream->reactor();
}

grpc::ServerUnaryReactor* ChatService::ListModels(grpc::CallbackServerContext*,
                                                  const chat::v1::ListModelsRequest*,
                                                  chat::v1::ListModelsResponse* response) {
  const auto call = ServerUnary<chat::v1::ListModelsResponse>::Create(response);
  loop_.Post([this, call] { call->End(router_.ListModels()); });
  return call->reactor();
}

}  // namespace minicpmv::router
