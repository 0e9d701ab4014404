#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/media/image.h"
#include "runtime/media/slicing.h"
#include "tools/minicpmv/bill.h"
#include "runtime/engine/local_model.h"
#include "tools/minicpmv/picture.h"

namespace minicpmv {

// What a model makes of a conversation's pictures, step by step: plans from their headers, pixels
// one picture at a time, embedding rows one sub-image at a time. Every step is done once and its
// result kept, so a conversation that grows pays for its new pictures only. For one thread.
class PictureRows {
 public:
  // The model outlives this. The model's rule unless `max_slices` says otherwise.
  PictureRows(LocalModel& model, std::optional<int> max_slices, Exif exif);

  // Plans for all of `pictures`; those of an earlier call are its beginning. Reads headers only.
  // Errors of ProbeImage and PlanSlices, which name the picture.
  absl::Status Plan(absl::Span<const Picture> pictures);
  absl::Span<const SlicePlan> plans() const { return plans_; }

  // Whether Encode would only look it up.
  bool Holds(int image, int sub_image) const;
  // Rows [queries, hidden] of one sub-image, in the model's dtype of rows, on its first device;
  // they live as long as this. What it takes goes on the bill. Errors of DecodeImage, which name
  // the picture, and of the encoder.
  absl::StatusOr<ConstTensorView> Encode(absl::Span<const Picture> pictures, int image,
                                         int sub_image, Bill& bill);

  // The sub-images of a picture, decoded and cut. The reference lives until the next call here.
  absl::StatusOr<const std::vector<Image>*> Open(absl::Span<const Picture> pictures, int image,
                                                 Bill& bill);

 private:
  struct Rows {
    std::unique_ptr<Buffer> buffer;  // [sub-images * queries, hidden]
    std::vector<bool> done;          // by sub-image
  };

  LocalModel& model_;
  SliceRule rule_;
  Exif exif_;
  std::vector<SlicePlan> plans_;
  std::vector<Rows> rows_;
  int open_ = -1;  // the picture whose sub-images these are
  std::vector<Image> sub_images_;
};

}  // namespace minicpmv
