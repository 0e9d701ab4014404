#include "services/vision/rows_cache.h"

#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace minicpmv::vision {
namespace {

size_t BytesOf(const RowsShape& shape) {
  return static_cast<size_t>(shape.queries * shape.hidden) * SizeOf(shape.dtype);
}

}  // namespace

std::string RowsKeyOf(absl::string_view cache_scope, absl::string_view media_digest,
                      const common::v1::Slice& slice, const common::v1::MediaOptions& options,
                      absl::string_view model_fingerprint) {
  const bool ignores_exif = options.exif_orientation() == common::v1::EXIF_ORIENTATION_IGNORE;
  // Numbers stand between marks and texts after their lengths, so no two lists make one key.
  return absl::StrCat(media_digest.size(), ":", media_digest, model_fingerprint.size(), ":",
                      model_fingerprint, slice.frame(), ",", slice.grid_columns(), ",",
                      slice.grid_rows(), ",", slice.index(), ",", slice.patch_columns(), ",",
                      slice.patch_rows(), ignores_exif ? ",stored:" : ",upright:", cache_scope);
}

absl::StatusOr<std::unique_ptr<RowsCache>> RowsCache::Create(Device& device, const RowsShape& shape,
                                                             size_t capacity,
                                                             std::function<void()> room) {
  if (capacity < BytesOf(shape)) {
    return absl::InvalidArgumentError(absl::StrCat("rows of one slice take ", BytesOf(shape),
                                                   " bytes; the cache may have ", capacity));
  }
  return absl::WrapUnique(new RowsCache(device, shape, capacity, std::move(room)));
}

absl::StatusOr<std::optional<RowsCache::Place>> RowsCache::Reserve() {
  std::optional<PinnedCache<SliceRows>::Room> room = rows_.Reserve(BytesOf(shape_));
  if (!room) return std::optional<Place>();
  Place place;
  place.room = *std::move(room);
  ASSIGN_OR_RETURN(place.rows.buffer, device_.Allocate(BytesOf(shape_)));
  place.rows.view =
      TensorView(place.rows.buffer->data(), shape_.dtype, Shape{shape_.queries, shape_.hidden});
  return std::optional<Place>(std::move(place));
}

}  // namespace minicpmv::vision
