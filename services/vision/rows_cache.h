#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "minicpmv/common/v1/prompt.pb.h"
#include "runtime/device/device.h"
#include "runtime/tensor/tensor.h"
#include "services/vision/pinned_cache.h"

namespace minicpmv::vision {

// Embedding rows of one slice, on the device: [queries, hidden].
struct SliceRows {
  std::unique_ptr<Buffer> buffer;
  TensorView view;
};

// Two slices have one key exactly if their rows are equal and may be shared: by cache scope, the
// medium's bytes, orientation, which part of it at which size, and the model. Into how many slices
// a picture might have been cut at most is no part of it: the grid into which it was is.
std::string RowsKeyOf(absl::string_view cache_scope, absl::string_view media_digest,
                      const common::v1::Slice& slice, const common::v1::MediaOptions& options,
                      absl::string_view model_fingerprint);

struct RowsShape {
  DType dtype = DType::kF32;
  int64_t queries = 0;
  int64_t hidden = 0;
};

// Rows of slices by content, within a bound of bytes; pinned while they are being sent.
// Thread-safe. The device outlives it.
class RowsCache {
 public:
  using Pin = PinnedCache<SliceRows>::Pin;
  // Where the rows of a slice will be made.
  struct Place {
    PinnedCache<SliceRows>::Room room;
    SliceRows rows;
  };

  // `room`: see PinnedCache. INVALID_ARGUMENT: not even the rows of one slice fit.
  static absl::StatusOr<std::unique_ptr<RowsCache>> Create(Device& device, const RowsShape& shape,
                                                           size_t capacity,
                                                           std::function<void()> room);

  Pin Find(absl::string_view key) { return rows_.Find(key); }
  // Nothing: rows that are pinned take it all. RESOURCE_EXHAUSTED: the device has no room.
  absl::StatusOr<std::optional<Place>> Reserve();
  Pin Insert(std::string key, Place place) {
    return rows_.Insert(std::move(key), std::move(place.room), std::move(place.rows));
  }

  const RowsShape& shape() const { return shape_; }
  size_t bytes() const { return rows_.bytes(); }
  // Of rows that are pinned or being made.
  size_t held_bytes() const { return rows_.held_bytes(); }

 private:
  RowsCache(Device& device, const RowsShape& shape, size_t capacity, std::function<void()> room)
      : device_(device), shape_(shape), rows_(capacity, std::move(room)) {}

  Device& device_;
  const RowsShape shape_;
  PinnedCache<SliceRows> rows_;
};

}  // namespace minicpmv::vision
