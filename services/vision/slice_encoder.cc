#include "services/vision/slice_encoder.h"

#include <utility>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/media/patches.h"

namespace minicpmv::vision {

absl::Status TowerEncoder::Encode(absl::Span<const Image* const> slices,
                                  absl::Span<const TensorView> rows) {
  CHECK_EQ(slices.size(), rows.size());
  CHECK_GT(slices.size(), size_t{0});
  // A slice alone may be of any size: then the tower gives back the room that it took.
  if (slices.size() == 1) return tower_.Encode({slices[0], 1}, rows[0], [](int64_t) {});

  const int patch_size = static_cast<int>(spec_.vision.patch_size);
  std::vector<PatchedImage> grids;
  for (const Image* const slice : slices) {
    PatchedImage grid = {slice->height / patch_size, slice->width / patch_size, {}};
    grid.patches.resize(
        static_cast<size_t>(int64_t{grid.rows} * grid.columns * 3 * patch_size * patch_size));
    PatchRows(*slice, patch_size, spec_.preprocess.mean, spec_.preprocess.std, grid.patches.data());
    grids.push_back(std::move(grid));
  }
  // The tower writes one run of rows; those of each slice belong elsewhere.
  const int64_t queries = tower_.queries();
  const int64_t count = static_cast<int64_t>(slices.size()) * queries;
  if (batch_.buffer == nullptr || batch_.view.rows() < count) {
    const Shape shape = {count, rows[0].columns()};
    ASSIGN_OR_RETURN(batch_.buffer, device_.Allocate(static_cast<size_t>(shape.elements()) *
                                                     SizeOf(rows[0].dtype)));
    batch_.view = TensorView(batch_.buffer->data(), rows[0].dtype, shape);
  }
  RETURN_IF_ERROR(tower_.EncodePatched(grids, batch_.view.Rows(0, count)));
  for (size_t i = 0; i < rows.size(); ++i) {
    kernels_.Cast(batch_.view.Rows(static_cast<int64_t>(i) * queries, queries), rows[i]);
  }
  return kernels_.stream().Wait();
}

}  // namespace minicpmv::vision
