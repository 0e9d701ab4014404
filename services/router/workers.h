#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "minicpmv/common/v1/media.pb.h"
#include "minicpmv/common/v1/scope.pb.h"
#include "minicpmv/decode/v1/decode_service.pb.h"
#include "minicpmv/prefill/v1/prefill_service.pb.h"
#include "minicpmv/vision/v1/vision_service.pb.h"
#include "runtime/base/trace_context.h"

namespace minicpmv::router {

// One life of a worker, and where it answers.
struct WorkerName {
  std::string id;
  std::string address;      // "host:port"
  std::string incarnation;  // 16 bytes
};

// One medium that a conversation shows.
struct RequestMedium {
  std::string digest;  // SHA-256 of its bytes
  // Held until the reply has ended, so that a lost home costs a put. Null: not at hand here;
  // whoever asks the worker looks for them.
  std::shared_ptr<const std::string> bytes;
};

// A call that is open at a worker. Destroyed, it is given up, and nothing is told any more once the
// destructor has returned.
class Open {
 public:
  virtual ~Open() = default;
};

// What a call answers: messages in order, then its end, an OK status included. On the loop's
// thread, never from inside the method that opens the call. The receiver may destroy the Open.
template <typename Response>
using Told = std::function<void(std::variant<Response, absl::Status>)>;

// The workers of a fleet as the router asks them: over gRPC, or made up in a simulation. For the
// loop's thread. Never refuses at once: what cannot even be asked ends with UNAVAILABLE. `work` is
// what the call does, in the request's trace.
class Workers {
 public:
  virtual ~Workers() = default;

  // Offers the medium, sends its bytes if they are wanted, and tells its information, then the end.
  // NOT_FOUND: the worker does not hold the medium, and nobody here has its bytes.
  virtual std::unique_ptr<Open> PutMedia(const WorkerName& worker, const TraceContext& work,
                                         const common::v1::RequestScope& scope,
                                         const std::string& digest,
                                         std::shared_ptr<const std::string> bytes,
                                         Told<common::v1::MediaInfo> told) = 0;
  virtual std::unique_ptr<Open> EncodeMedia(const WorkerName& worker, const TraceContext& work,
                                            vision::v1::EncodeMediaRequest request,
                                            Told<vision::v1::EncodeMediaResponse> told) = 0;
  virtual std::unique_ptr<Open> PrefillPrompt(const WorkerName& worker, const TraceContext& work,
                                              prefill::v1::PrefillPromptRequest request,
                                              Told<prefill::v1::PrefillPromptResponse> told) = 0;
  virtual std::unique_ptr<Open> DecodeSequence(const WorkerName& worker, const TraceContext& work,
                                               decode::v1::DecodeSequenceRequest request,
                                               Told<decode::v1::DecodeSequenceResponse> told) = 0;
};

}  // namespace minicpmv::router
