#pragma once

#include <grpcpp/support/string_ref.h>

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "minicpmv/chat/v1/chat_service.pb.h"
#include "services/router/chat_request.h"
#include "services/router/media_bytes.h"

namespace minicpmv::router {

// Everything about a request that can be told without knowing the model. INVALID_ARGUMENT with the
// path of the field, as in "options.sampling.top_p".
absl::Status CheckRequest(const chat::v1::StreamReplyRequest& request);

// A request as the router takes it, and what keeps its media in place until the reply has ended.
struct ReceivedRequest {
  ChatRequest chat;
  std::vector<MediaBytes::Held> media;
};

// Checks the request, takes its media out and digests them; milliseconds for each MB. Errors of
// CheckRequest, MediaBytes::Keep and MediaBytes::FindHandle, with the field's path.
absl::StatusOr<ReceivedRequest> ReceiveRequest(chat::v1::StreamReplyRequest request,
                                               const std::string& cache_scope, MediaBytes& media);

// Metadata of a call by which clients name their cache scope. Whoever may call may name any.
inline constexpr char kScopeMetadata[] = "minicpmv-cache-scope";
// "" where it is not named. INVALID_ARGUMENT: longer than 64 bytes, or named twice.
absl::StatusOr<std::string> CacheScopeOf(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata);

}  // namespace minicpmv::router
