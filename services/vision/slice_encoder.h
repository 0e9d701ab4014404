#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/kernels/kernels.h"
#include "runtime/media/image.h"
#include "runtime/model/vision_encoder.h"
#include "services/vision/rows_cache.h"

namespace minicpmv::vision {

// Makes rows of slices that lie anywhere. One thread at a time.
class SliceEncoder {
 public:
  virtual ~SliceEncoder() = default;
  // Fills rows[i] with those of slices[i], and returns when it is done. The slices have one size.
  virtual absl::Status Encode(absl::Span<const Image* const> slices,
                              absl::Span<const TensorView> rows) = 0;
};

// With a model's tower and resampler.
class TowerEncoder final : public SliceEncoder {
 public:
  // All outlive it; the kernels are those of the tower.
  TowerEncoder(VisionEncoder& tower, const ModelSpec& spec, Device& device, Kernels& kernels)
      : tower_(tower), spec_(spec), device_(device), kernels_(kernels) {}

  absl::Status Encode(absl::Span<const Image* const> slices,
                      absl::Span<const TensorView> rows) override;

 private:
  VisionEncoder& tower_;
  const ModelSpec& spec_;
  Device& device_;
  Kernels& kernels_;
  SliceRows batch_;  // [slices * queries, hidden] of the largest batch so far
};

}  // namespace minicpmv::vision
