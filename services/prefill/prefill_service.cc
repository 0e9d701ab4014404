#include "services/prefill/prefill_service.h"

#include <memory>
#include <utility>

#include "services/common/calls.h"
#include "services/common/start_call.h"
#include "services/common/trace_metadata.h"
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
  const auto call = std::make_shared<prefill::PrefillCall>(
      room_, calls_, stream, *std::move(job), TraceContextIfTracing(context->client_metadata()));
  StartCall(
      room_.worker(), common::v1::ROLE_PREFILL, *context, *stream, *call,
      [&](std::unique_ptr<Worker::Call> admitted) { call->Start(*request, std::move(admitted)); });
  return stream->reactor();
}

}  // namespace minicpmv
