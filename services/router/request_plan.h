#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "minicpmv/common/v1/media.pb.h"
#include "minicpmv/common/v1/prompt.pb.h"
#include "services/router/chat_request.h"
#include "services/router/router_model.h"

namespace minicpmv::router {

// What a request comes to, known exactly before any pixel is decoded.
struct RequestPlan {
  common::v1::Prompt prompt;
  // For each span of the prompt: which of the request's media it shows.
  std::vector<size_t> medium_of_span;
  // Equal for conversations of one tenant that begin alike, whatever follows.
  uint64_t beginning = 0;
};

// `infos` has one entry for each medium of the request. INVALID_ARGUMENT names the field: a
// conversation that makes no sense, a picture that cannot be sliced. OUT_OF_RANGE: the prompt
// leaves the context no room for an answer. UNIMPLEMENTED: a video. INTERNAL: an information that
// cannot be (it came from a worker).
absl::StatusOr<RequestPlan> PlanRequest(const ChatRequest& request,
                                        absl::Span<const common::v1::MediaInfo> infos,
                                        const RouterModel& model);

// The path of the request's medium number `index`, as in "conversation.messages[0].parts[1].media".
std::string MediumPath(const ChatRequest& request, size_t index);

}  // namespace minicpmv::router
