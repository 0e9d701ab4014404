#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "minicpmv/chat/v1/chat_service.grpc.pb.h"

namespace minicpmv::sdk {

// Brings a medium to one server, in pieces of 256 KiB unless it holds it already.
absl::StatusOr<chat::v1::UploadedMedia> Upload(chat::v1::ChatService::Stub& stub,
                                               grpc::ClientContext& context,
                                               absl::string_view bytes);

}  // namespace minicpmv::sdk
