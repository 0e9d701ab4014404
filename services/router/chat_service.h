#pragma once

#include <memory>

#include "absl/time/time.h"
#include "minicpmv/chat/v1/chat_service.grpc.pb.h"
#include "services/router/loop.h"
#include "services/router/media_bytes.h"
#include "services/router/router.h"
#include "services/router/router_metrics.h"

namespace minicpmv::router {

// minicpmv.chat.v1 over gRPC, around a router. What it is given outlives the server that it is
// registered with.
//
// A reader that is slow or does not read costs what the reply holds once: beyond a few messages the
// texts that it has not taken are joined into one.
class ChatService final : public chat::v1::ChatService::CallbackService {
 public:
  // `upload_patience`: how long an upload may go without a byte.
  ChatService(Router& router, Loop& loop, MediaBytes& media, RouterMetrics& metrics,
              absl::Duration upload_patience = absl::Seconds(30));

  grpc::ServerUnaryReactor* GenerateReply(grpc::CallbackServerContext* context,
                                          const chat::v1::GenerateReplyRequest* request,
                                          chat::v1::GenerateReplyResponse* response) override;
  grpc::ServerWriteReactor<chat::v1::StreamReplyResponse>* StreamReply(
      grpc::CallbackServerContext* context, const chat::v1::StreamReplyRequest* request) override;
  grpc::ServerBidiReactor<chat::v1::UploadMediaRequest, chat::v1::UploadMediaResponse>* UploadMedia(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const chat::v1::ListModelsRequest* request,
                                       chat::v1::ListModelsResponse* response) override;

 private:
  Router& router_;
  Loop& loop_;
  MediaBytes& media_;
  RouterMetrics& metrics_;
  const absl::Duration upload_patience_;
};

}  // namespace minicpmv::router
