#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "minicpmv/vision/v1/vision_service.pb.h"
#include "runtime/base/trace_file.h"
#include "services/common/calls.h"
#include "services/vision/media_store.h"
#include "services/vision/vision_room.h"

namespace minicpmv::vision {

// One PutMedia call. Lives as long as its stream reads; what has come of a medium that never
// becomes whole ends with it.
class PutCall final : public std::enable_shared_from_this<PutCall> {
 public:
  using Stream = ServerBidi<v1::PutMediaRequest, v1::PutMediaResponse>;

  PutCall(VisionRoom& room, std::shared_ptr<Stream> stream, TraceContext trace);
  ~PutCall();

  void Start(std::unique_ptr<Worker::Call> admitted);
  // Any thread.
  void End(const absl::Status& status) { stream_->End(status); }

 private:
  // What the stream reads, one after another; nothing: its end.
  void Receive(std::optional<v1::PutMediaRequest> request);
  absl::Status Take(const v1::PutMediaRequest& request);
  absl::Status TakeOffer(const v1::MediaOffer& offer);
  absl::Status TakeChunk(const v1::MediaChunk& chunk);
  void Answer(const MediaStore::Pin& medium);

  VisionRoom& room_;
  const OpenCalls::Entry open_;
  const std::shared_ptr<Stream> stream_;
  const absl::Time handed_;
  std::unique_ptr<Worker::Call> admitted_;

  // Touched while the stream tells something only.
  TracedWork work_;
  int64_t received_ = 0;  // bytes
  bool has_offer_ = false, is_over_ = false, is_half_ = false;
  std::optional<MediaUpload> upload_;
};

}  // namespace minicpmv::vision
