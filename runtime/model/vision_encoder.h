#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/kernels/kernels.h"
#include "runtime/media/image.h"
#include "runtime/model/activation_observer.h"
#include "runtime/model/family.h"
#include "runtime/model/scratch.h"

namespace minicpmv {

// One sub-image as the tower takes it in.
struct PatchedImage {
  int rows = 0, columns = 0;
  std::vector<float> patches;  // [rows * columns, 3 * patch_size^2], normalised, in raster order, as PatchRows lays them out
};

// Sub-images in, embedding rows out: the vision tower and the resampler on one device. One thread encodes at a time; the
// checkpoint, device and kernels outlive it.
class VisionEncoder {
 public:
  // NOT_FOUND, INVALID_ARGUMENT: a tensor is missing or has another shape than the spec says. RESOURCE_EXHAUSTED: no room.
  static absl::StatusOr<std::unique_ptr<VisionEncoder>> Load(const Checkpoint& checkpoint, const ModelSpec& spec,
                                                             Device& device, Kernels& kernels);

  ~VisionEncoder();

  // Rows of one sub-image.
  int64_t queries() const { return spec_.resampler.queries; }

  // Fills `out` [sub_images * queries, hidden], f32, bf16 or f16, on the device; blocks until it is done. Sub-images are any
  // mix of sizes; they do not see each other. After each batch `progress` is told how many are done.
  // `observer` is shown "vision.0.NN", the input to each layer and, last, what the last one leaves for the final norm, and
  // "vision.0.out", behind that norm; all of the first sub-image.
  absl::Status Encode(absl::Span<const Image> sub_images, TensorView out, absl::FunctionRef<void(int64_t done)> progress,
                      const ActivationObserver* observer = nullptr);
  // The same for one batch of what has been laid out already.
  absl::Status EncodePatched(absl::Span<const PatchedImage> grids, TensorView out, const ActivationObserver* observer = nullptr);

 private:
  struct Layer {
    Weight norm1, norm1_bias, q, q_bias, k, k_bias, v, v_bias, out, out_bias;
    Weight norm2, norm2_bias, fc1, fc1_bias, fc2, fc2_bias;
  };
  struct Rooms;  // activations of one batch

  VisionEncoder(const ModelSpec& spec, Device& device, Kernels& kernels);
  absl::Status LoadTower(const Checkpoint& checkpoint);
  absl::Status LoadResampler(const Checkpoint& checkpoint);
  absl::Status ReserveRooms(int64_t patches, int64_t sub_images);
  absl::Status ReservePositions(int64_t positions);
  void RunLayer(const Layer& layer, int64_t patches, const AttentionSpans& spans);

  const ModelSpec spec_;
  Device& device_;
  Kernels& kernels_;
  Weight patch_, patch_bias_, positions_, final_norm_, final_norm_bias_;
  std::vector<Layer> layers_;

  Weight kv_, norm_kv_, norm_kv_bias_, k_, k_bias_, v_, v_bias_, out_, out_bias_, norm_post_, norm_post_bias_, proj_;
  Scratch constants_;
  TensorView queries_;             // [queries, hidden]: the same for every picture, so computed at load
  std::vector<float> axis_codes_;  // what codes_ was prepared from
  Weight codes_;                   // [positions, hidden / 2]
  std::unique_ptr<Rooms> rooms_;
};

}  // namespace minicpmv
