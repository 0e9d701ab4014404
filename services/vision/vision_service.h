#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "minicpmv/vision/v1/vision_service.grpc.pb.h"
#include "runtime/engine/local_model.h"
#include "services/common/load_board.h"
#include "services/common/metrics.h"
#include "services/common/open_calls.h"
#include "services/common/worker.h"
#include "services/vision/encode_queue.h"
#include "services/vision/media_store.h"
#include "services/vision/slice_encoder.h"
#include "services/vision/vision_metrics.h"
#include "services/vision/vision_room.h"

namespace minicpmv {

struct VisionOptions {
  vision::MediaStoreOptions media;
  size_t rows_capacity = 256 << 20;           // bytes of rows that are kept or on their way
  int64_t pixel_capacity = int64_t{1} << 30;  // bytes of pixels that may arrive at a time
  int open_media = 4;                         // media whose pixels are held at once
};

// Media in, embedding rows out: answers PutMedia and EncodeMedia with the tower of a loaded model.
// Thread-safe.
class VisionService final : public vision::v1::VisionService::CallbackService {
 public:
  // Loads the tower and starts its queue. Worker and model live longer than this; this longer than
  // its server. Errors of LocalModel::Vision; INVALID_ARGUMENT: the rows of one slice do not fit.
  static absl::StatusOr<std::unique_ptr<VisionService>> Create(Worker& worker, LocalModel& model,
                                                               const VisionOptions& options = {});
  // The same with another encoder than the model's: for tests.
  static absl::StatusOr<std::unique_ptr<VisionService>> Create(
      Worker& worker, LocalModel& model, const VisionOptions& options,
      std::unique_ptr<vision::SliceEncoder> encoder);
  // Waits until every call has ended and no parcel names one any more.
  ~VisionService() override;

  grpc::ServerBidiReactor<vision::v1::PutMediaRequest, vision::v1::PutMediaResponse>* PutMedia(
      grpc::CallbackServerContext* context) override;
  grpc::ServerWriteReactor<vision::v1::EncodeMediaResponse>* EncodeMedia(
      grpc::CallbackServerContext* context, const vision::v1::EncodeMediaRequest* request) override;

  const vision::MediaStore& media() const { return media_; }
  const vision::EncodeQueue& queue() const { return *queue_; }

 private:
  VisionService(Worker& worker, LocalModel& model, const VisionOptions& options);
  void Report(control::v1::WorkerLoad& load) const;

  Worker& worker_;
  LocalModel& model_;
  vision::VisionMetrics metrics_;
  vision::MediaStore media_;
  std::unique_ptr<vision::SliceEncoder> encoder_;
  std::unique_ptr<vision::EncodeQueue> queue_;
  std::atomic<int64_t> pixel_room_;
  std::unique_ptr<vision::VisionRoom> room_;
  std::unique_ptr<LoadBoard::Entry> board_entry_;
  std::unique_ptr<Listeners<>::Entry> refresh_;
  OpenCalls calls_;  // ends first: waits for whoever uses the others
};

}  // namespace minicpmv
