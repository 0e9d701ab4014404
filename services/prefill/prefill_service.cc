#include "services/prefill/prefill_service.h"

#include <memory>
#include <utility>

#include "services/common/calls.h"
#include "services/prefill/prefill_call.h"
#include "services/prefill/prefill_request.h"

namespace minicpmv {

grpc::ServerWriteReactor<prefill::v1::PrefillPromptResponse>* PrefillService::PrefillPrompt(
    grpc::CallbackServerContext* context, const prefill::v1::PrefillPromptRequest* request) {
  const auto stream = ServerStream<prefill::v1::PrefillPromptResponse>::Create();
  absl::StatusOr<prefill::PrefillJob> job =
      prefill::ReadPrefillRequest(*request, room_.worker().identity(), room_.model());
  if (!job.ok()) {
    stream->End(job.status());
    return stream->reactor();
  }
  const auto call = std::make_shared<prefill::PrefillCall>(room_, calls_, stream, *std::move(job));
  // Not called any more once the call has let go of what it admitted.
  absl::StatusOr<std::unique_ptr<Worker::Call>> admitted =
      room_.worker().Admit(common::v1::ROLE_PREFILL, context->client_metadata(),
                           [&call = *call] { call.End(Worker::HandedBack()); });
  if (!admitted.ok()) {
    stream->End(admitted.status());
    return stream->reactor();
  }
  call->Start(*request, *std::move(admitted));
  return stream->reactor();
}

}  // namespace minicpmv
