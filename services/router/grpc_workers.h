#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/common/credentials.h"
#include "services/common/open_calls.h"
#include "services/router/loop.h"
#include "services/router/media_bytes.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// Workers over gRPC, one channel each. What they say is told on the loop.
class GrpcWorkers final : public Workers {
 public:
  // `incarnation`: the router's 16 bytes, by which workers count its calls. Where PutMedia is given
  // no bytes they are looked for in `media`. Loop and media outlive this, and this every Open.
  GrpcWorkers(Loop& loop, const Credentials& credentials, absl::string_view incarnation,
              MediaBytes& media);
  // Waits for what gRPC still has of calls that were given up.
  ~GrpcWorkers() override;

  // Workers that a connection is kept for, or was a short while ago.
  size_t connections() const { return stubs_.size(); }

  std::unique_ptr<Open> PutMedia(const WorkerName& worker, const TraceContext& work,
                                 const common::v1::RequestScope& scope, const std::string& digest,
                                 std::shared_ptr<const std::string> bytes,
                                 Told<common::v1::MediaInfo> told) override;
  std::unique_ptr<Open> EncodeMedia(const WorkerName& worker, const TraceContext& work,
                                    vision::v1::EncodeMediaRequest request,
                                    Told<vision::v1::EncodeMediaResponse> told) override;
  std::unique_ptr<Open> PrefillPrompt(const WorkerName& worker, const TraceContext& work,
                                      prefill::v1::PrefillPromptRequest request,
                                      Told<prefill::v1::PrefillPromptResponse> told) override;
  std::unique_ptr<Open> DecodeSequence(const WorkerName& worker, const TraceContext& work,
                                       decode::v1::DecodeSequenceRequest request,
                                       Told<decode::v1::DecodeSequenceResponse> told) override;

 private:
  struct Stubs;

  absl::StatusOr<std::shared_ptr<Stubs>> StubsOf(const WorkerName& worker);
  // What the metadata of every call says.
  void Prepare(const TraceContext& work, grpc::ClientContext& context) const;
  template <typename Response, typename Start>
  std::unique_ptr<Open> OpenStream(const WorkerName& worker, const TraceContext& work,
                                   Told<Response> told, const Start& start);

  Loop& loop_;
  const Credentials credentials_;
  const std::string incarnation_hex_;
  MediaBytes& media_;
  std::map<std::string, std::shared_ptr<Stubs>> stubs_;  // by address
  OpenCalls calls_;
};

}  // namespace minicpmv::router
