#pragma once

#include "minicpmv/prefill/v1/prefill_service.grpc.pb.h"
#include "services/common/engine_room.h"
#include "services/common/open_calls.h"

namespace minicpmv {

// Tokens and rows in, pages out: answers PrefillPrompt over the room's engine. Thread-safe.
class PrefillService final : public prefill::v1::PrefillService::CallbackService {
 public:
  // The room's worker knows its links. The room lives longer than this; this longer than its
  // server.
  explicit PrefillService(EngineRoom& room) : room_(room) {}
  // Waits until the engine has told the end of every call.
  ~PrefillService() override = default;

  grpc::ServerWriteReactor<prefill::v1::PrefillPromptResponse>* PrefillPrompt(
      grpc::CallbackServerContext* context,
      const prefill::v1::PrefillPromptRequest* request) override;

 private:
  EngineRoom& room_;
  OpenCalls calls_;
};

}  // namespace minicpmv
