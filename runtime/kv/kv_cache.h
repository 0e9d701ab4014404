#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/device/device.h"
#include "runtime/kernels/step_batch.h"

namespace minicpmv {

// What one position costs a layer.
struct CacheShape {
  DType dtype = DType::kF32;  // f32, bf16 or f16
  int kv_heads = 0;
  int head_size = 0;

  uint64_t page_bytes() const {
    return uint64_t{2} * kv_heads * kPageSize * head_size * SizeOf(dtype);
  }
};

// The cache's bytes of one run of layers on one device. Which page is whose is PagePool's business.
// The device outlives it, and it outlives the steps that name its pages.
class KvCache {
 public:
  // RESOURCE_EXHAUSTED: the device has no such room. INVALID_ARGUMENT: a size that is no size.
  static absl::StatusOr<KvCache> Create(Device& device, const CacheShape& shape, int64_t layers,
                                        int64_t pages);

  // One view a layer, in order.
  absl::Span<const CacheLayer> layers() const { return layers_; }
  uint64_t bytes() const;

 private:
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<CacheLayer> layers_;
};

}  // namespace minicpmv
