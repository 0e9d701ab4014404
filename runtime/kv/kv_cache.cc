#include "runtime/kv/kv_cache.h"

#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {

absl::StatusOr<KvCache> KvCache::Create(Device& device, const CacheShape& shape, int64_t layers,
                                        int64_t pages) {
  if (shape.dtype != DType::kF32 && shape.dtype != DType::kBF16 && shape.dtype != DType::kF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("a cache cannot be kept in ", NameOf(shape.dtype)));
  }
  if (shape.kv_heads < 1 || shape.head_size < 1 || layers < 1 || pages < 1 ||
      pages > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("a cache of ", layers, " layers, ", pages,
                                                   " pages, ", shape.kv_heads, " heads of ",
                                                   shape.head_size, " cannot be"));
  }
  size_t bytes = 0;
  if (__builtin_mul_overflow(shape.page_bytes(), static_cast<uint64_t>(pages), &bytes)) {
    return absl::ResourceExhaustedError(
        absl::StrCat(pages, " pages of ", shape.page_bytes(), " bytes are too many"));
  }
  KvCache cache;
  for (int64_t layer = 0; layer < layers; ++layer) {
    ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device.Allocate(bytes));
    cache.layers_.push_back({buffer->data(), shape.dtype, pages, shape.kv_heads, shape.head_size});
    cache.buffers_.push_back(std::move(buffer));
  }
  return cache;
}

uint64_t KvCache::bytes() const {
  uint64_t sum = 0;
  for (const CacheLayer& layer : layers_) sum += layer.page_bytes() * layer.pages;
  return sum;
}

}  // namespace minicpmv
