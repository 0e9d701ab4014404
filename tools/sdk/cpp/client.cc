#include "tools/sdk/cpp/client.h"

#include <utility>

#include "tools/sdk/cpp/attempts.h"
#include "tools/sdk/cpp/reply_stream.h"
#include "tools/sdk/cpp/servers.h"
#include "tools/sdk/cpp/status.h"
#include "tools/sdk/cpp/upload.h"

namespace minicpmv::sdk {
namespace {

constexpr size_t kMaxScopeBytes = 64;

// What may be tried again as a whole.
template <typename Answer>
absl::StatusOr<Answer> Try(Servers& servers, const CallOptions& options,
                           absl::FunctionRef<absl::StatusOr<Answer>(Attempts&)> ask) {
  Attempts attempts(servers, options);
  while (true) {
    absl::StatusOr<Answer> answer = ask(attempts);
    if (answer.ok()) return answer;
    if (absl::Status over = attempts.AwaitNext(answer.status()); !over.ok()) return over;
  }
}

}  // namespace

absl::Status CheckOptions(const ClientOptions& options) {
  if (options.servers.empty()) return absl::InvalidArgumentError("no server is named");
  for (const std::string& address : options.servers) {
    if (address.empty()) return absl::InvalidArgumentError("a server's address is empty");
  }
  if (options.cache_scope.size() > kMaxScopeBytes) {
    return absl::InvalidArgumentError("the cache scope is longer than 64 bytes");
  }
  if (options.tls && options.tls->certificate.empty() != options.tls->key.empty()) {
    return absl::InvalidArgumentError("a certificate needs its key, and a key its certificate");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  if (absl::Status wrong = CheckOptions(options); !wrong.ok()) return wrong;
  return std::unique_ptr<Client>(new Client(std::move(options)));
}

Client::Client(ClientOptions options) : servers_(std::make_unique<Servers>(std::move(options))) {}
Client::~Client() = default;

std::unique_ptr<ReplyStream> Client::StreamReply(chat::v1::StreamReplyRequest request,
                                                 const CallOptions& options) {
  return std::make_unique<ReplyStream>(*servers_, std::move(request), options);
}

absl::Status Client::StreamReply(
    chat::v1::StreamReplyRequest request,
    absl::FunctionRef<absl::Status(const chat::v1::StreamReplyResponse&)> sink,
    const CallOptions& options) {
  ReplyStream stream(*servers_, std::move(request), options);
  while (true) {
    const auto event = stream.Next();
    if (!event.ok()) return event.status();
    if (!event->has_value()) return absl::OkStatus();
    if (absl::Status taken = sink(**event); !taken.ok()) return taken;
  }
}

absl::StatusOr<chat::v1::GenerateReplyResponse> Client::GenerateReply(
    chat::v1::GenerateReplyRequest request, const CallOptions& options) {
  chat::v1::StreamReplyRequest streamed;
  streamed.set_model(std::move(*request.mutable_model()));
  streamed.mutable_conversation()->Swap(request.mutable_conversation());
  streamed.mutable_options()->Swap(request.mutable_options());
  chat::v1::GenerateReplyResponse response;
  chat::v1::Reply& reply = *response.add_replies();
  const absl::Status status = StreamReply(
      std::move(streamed),
      [&](const chat::v1::StreamReplyResponse& event) {
        if (event.has_start()) {
          response.set_request_id(event.start().request_id());
          response.set_model(event.start().model());
          response.set_seed(event.start().seed());
        } else if (event.has_text()) {
          reply.mutable_text()->append(event.text().text());
          reply.mutable_tokens()->MergeFrom(event.text().tokens());
        } else if (event.has_ending()) {
          reply.set_finish_reason(event.ending().finish_reason());
          *response.mutable_usage() = event.ending().usage();
          *response.mutable_bill() = event.ending().bill();
        }
        return absl::OkStatus();
      },
      options);
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<chat::v1::UploadedMedia> Client::UploadMedia(absl::string_view bytes,
                                                            const CallOptions& options) {
  const chat::v1::UploadMediaRequest offer = UploadOfferOf(bytes);
  return Try<chat::v1::UploadedMedia>(*servers_, options, [&](Attempts& attempts) {
    return Upload(*attempts.server().stub, *attempts.NewContext(), offer, bytes);
  });
}

absl::StatusOr<chat::v1::ListModelsResponse> Client::ListModels(const CallOptions& options) {
  using Answer = absl::StatusOr<chat::v1::ListModelsResponse>;
  return Try<chat::v1::ListModelsResponse>(*servers_, options, [](Attempts& attempts) -> Answer {
    chat::v1::ListModelsResponse response;
    const grpc::Status status =
        attempts.server().stub->ListModels(attempts.NewContext().get(), {}, &response);
    if (!status.ok()) return FromGrpc(status);
    return response;
  });
}

}  // namespace minicpmv::sdk
