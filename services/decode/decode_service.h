#pragma once

#include "minicpmv/decode/v1/decode_service.grpc.pb.h"
#include "services/common/engine_room.h"
#include "services/common/open_calls.h"

namespace minicpmv {

// KV pages and tokens in, tokens out: answers DecodeSequence over the room's engine. Thread-safe.
class DecodeService final : public decode::v1::DecodeService::CallbackService {
 public:
  // The model has its text and its head. The room lives longer than this; this longer than its
  // server.
  explicit DecodeService(EngineRoom& room);
  // Waits until the engine has told the end of every call.
  ~DecodeService() override = default;

  grpc::ServerWriteReactor<decode::v1::DecodeSequenceResponse>* DecodeSequence(
      grpc::CallbackServerContext* context,
      const decode::v1::DecodeSequenceRequest* request) override;

 private:
  EngineRoom& room_;
  OpenCalls calls_;
};

}  // namespace minicpmv
