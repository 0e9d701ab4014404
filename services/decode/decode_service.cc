#include "services/decode/decode_service.h"

#include <memory>
#include <utility>

#include "services/common/calls.h"
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
  const auto call = std::make_shared<decode::DecodeCall>(room_, calls_, stream, request->prompt(),
                                                         *std::move(sequence));
  // Not called any more once the call has let go of what it admitted.
  absl::StatusOr<std::unique_ptr<Worker::Call>> admitted =
      room_.worker().Admit(common::v1::ROLE_DECODE, context->client_metadata(),
                           [&call = *call] { call.End(Worker::HandedBack()); });
  if (!admitted.ok()) {
    stream->End(admitted.status());
    return stream->reactor();
  }
  call->Start(*std::move(admitted));
  return stream->reactor();
}

}  // namespace minicpmv
