#include "services/common/transfer_service.h"

#include <utility>

#include "services/common/arrivals.h"
#include "services/common/calls.h"

namespace minicpmv {

TransferService::TransferService(TransferOptions options, Inbox& inbox, LinkObserver& observer)
    : arrivals_(std::make_unique<Arrivals>(std::move(options), inbox, observer)) {}

TransferService::~TransferService() = default;

grpc::ServerUnaryReactor* TransferService::OpenLink(grpc::CallbackServerContext* context,
                                                    const transfer::v1::OpenLinkRequest* request,
                                                    transfer::v1::OpenLinkResponse* response) {
  absl::StatusOr<transfer::v1::OpenLinkResponse> opened = arrivals_->Open(*request);
  if (opened.ok()) *response = *std::move(opened);
  return AnswerAtOnce(context, opened.status());
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* TransferService::Deliver(
    grpc::CallbackServerContext*) {
  const std::shared_ptr<Delivery::Stream> stream = Delivery::Stream::Create();
  arrivals_->Deliver(stream);
  return stream->reactor();
}

grpc::ServerUnaryReactor* TransferService::CloseLink(grpc::CallbackServerContext*,
                                                     const transfer::v1::CloseLinkRequest* request,
                                                     transfer::v1::CloseLinkResponse* response) {
  auto call = ServerUnary<transfer::v1::CloseLinkResponse>::Create(response);
  grpc::ServerUnaryReactor* const reactor = call->reactor();
  arrivals_->Close(request->link(), [call](const absl::Status& status) {
    if (status.ok()) {
      call->End(transfer::v1::CloseLinkResponse());
    } else {
      call->End(status);
    }
  });
  return reactor;
}

}  // namespace minicpmv
