#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "minicpmv/chat/v1/chat_service.grpc.pb.h"

namespace minicpmv::sdk {

// An upload's first message.
chat::v1::UploadMediaRequest UploadOfferOf(absl::string_view bytes);
// The chunk that begins at `offset`, of 256 KiB or what is left.
chat::v1::UploadMediaRequest UploadChunkOf(absl::string_view bytes, size_t offset);

// Brings a medium to one server, in pieces of 256 KiB unless it holds it already.
absl::StatusOr<chat::v1::UploadedMedia> Upload(chat::v1::ChatService::Stub& stub,
                                               grpc::ClientContext& context,
                                               const chat::v1::UploadMediaRequest& offer,
                                               absl::string_view bytes);

}  // namespace minicpmv::sdk
