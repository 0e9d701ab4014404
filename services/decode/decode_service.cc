#include "services/decode/decode_service.h"

#include <memory>
#include <utility>

#include "services/common/calls.h"
#include "services/common/start_call.h"
#include "services/common/trace_metadata.h"
#include "services/decode/decode_call.h"
#include "services/decode/decode_request.h"

namespace minicpmv {

DecodeService::DecodeService(EngineRoom& room) : room_(room) {}

grpc::ServerWriteReactor<decode::v1::DecodeSequenceResponse>* DecodeService::DecodeSequence(
    grpc::CallbackServerContext* context, const decode::v1::DecodeSequenceRequest* request) {
  const auto stream = ServerStream<decode::v1::DecodeSequenceResponse>::Create();
  absl::StatusOr<SequenceRequest> sequence =
      decode::ReadDecodeRequest(*request, room_.worker().identity(), room_.model());
  if (!sequence.ok()) {
    stream->End(sequence.status());
    return stream->reactor();
  }
  const auto call = std::make_shared<decode::DecodeCall>(
      room_, calls_, stream, request->prompt(), *std::move(sequence),
      TraceContextIfTracing(context->client_metadata()));
  StartCall(room_.worker(), common::v1::ROLE_DECODE, *context, *stream, *call,
            [&](std::unique_ptr<Worker::Call> admitted) { call->Start(std::move(admitted)); });
  return stream->reactor();
}

}  // namespace minicpmv
