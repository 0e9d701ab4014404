#include "runtime/media/slicing.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/media/resize.h"

namespace minicpmv {
namespace {

// Whole numbers as doubles: nothing overflows before the bounds are checked.
struct Sides {
  double width;
  double height;
};

// The multiple of `divisor` that is nearest to `length`, at least one of it. Halves go to the even
// multiple (the rounding mode is the default one).
double NearestMultiple(double length, double divisor) {
  return std::max(std::nearbyint(length / divisor) * divisor, divisor);
}

// Sides of the same shape and about scale_resolution squared pixels. The new width follows from the
// new height after that has been cut to a whole number.
Sides BestResize(Sides sides, const SliceRule& rule, bool enlarge) {
  const double scale = rule.scale_resolution;
  if (enlarge || sides.width * sides.height > scale * scale) {
    const double ratio = sides.width / sides.height;
    sides.height = std::trunc(scale / std::sqrt(ratio));
    sides.width = std::trunc(sides.height * ratio);
  }
  return {NearestMultiple(sides.width, rule.patch_size),
          NearestMultiple(sides.height, rule.patch_size)};
}

struct Grid {
  int columns = 0;
  int rows = 0;
};

// The grid of about `wanted` slices whose shape comes nearest to the picture's; the first of
// equals.
Grid BestGrid(Sides image, int wanted, int max_slices) {
  const double shape = std::log(image.width / image.height);
  Grid best{1, 1};
  double least = std::numeric_limits<double>::infinity();
  for (int64_t count = int64_t{wanted} - 1; count <= int64_t{wanted} + 1; ++count) {
    if (count == 1 || count > max_slices) continue;
    for (int columns = 1; columns <= count; ++columns) {
      if (count % columns != 0) continue;
      const int rows = static_cast<int>(count / columns);
      const double error = std::abs(shape - std::log(static_cast<double>(columns) / rows));
      if (error < least) {
        least = error;
        best = {columns, rows};
      }
    }
  }
  return best;
}

absl::StatusOr<Size> CheckedSize(Sides sides, const SliceRule& rule, absl::string_view what) {
  const double rows = std::floor(sides.height / rule.patch_size);
  const double columns = std::floor(sides.width / rule.patch_size);
  if (!(rows * columns >= 1 && rows * columns <= kMaxPatches)) {
    return absl::InvalidArgumentError(absl::StrCat(what, " of the image would have ", rows, " x ",
                                                   columns, " patches; between 1 and ", kMaxPatches,
                                                   " can be looked at"));
  }
  return Size{static_cast<int>(sides.width), static_cast<int>(sides.height)};
}

absl::Status TooManySlices(int slices) {
  return absl::InvalidArgumentError(absl::StrCat("the image's ", slices,
                                                 " slices would have more than ", kMaxSlicePatches,
                                                 " patches; allow fewer slices"));
}

Image Cut(const Image& image, Size slice, int column, int row) {
  Image cut{slice.width, slice.height, {}};
  const size_t row_bytes = size_t{3} * slice.width;
  cut.rgb.reserve(row_bytes * slice.height);
  for (int y = 0; y < slice.height; ++y) {
    const size_t line = static_cast<size_t>(row) * slice.height + y;
    const uint8_t* begin = image.rgb.data() + line * 3 * image.width + column * row_bytes;
    cut.rgb.insert(cut.rgb.end(), begin, begin + row_bytes);
  }
  return cut;
}

}  // namespace

PatchGrid SlicePlan::patches(int i) const {
  CHECK(i >= 0 && i < sub_images()) << i << " of " << sub_images();
  const Size size = i == 0 ? overview : slice;
  return {size.height / patch_size, size.width / patch_size};
}

absl::StatusOr<SlicePlan> PlanSlices(Size image, const SliceRule& rule) {
  if (image.width < 1 || image.height < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("an image of ", image.width, " x ", image.height, " pixels"));
  }
  if (rule.scale_resolution < 1 || rule.max_slices < 1 || rule.patch_size < 1 ||
      rule.patch_size > kMaxPatchSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("scale_resolution ", rule.scale_resolution, ", max_slices ", rule.max_slices,
                     ", patch_size ", rule.patch_size,
                     ": each must be at least 1, and patch_size at most ", kMaxPatchSize));
  }
  const Sides sides{static_cast<double>(image.width), static_cast<double>(image.height)};
  SlicePlan plan;
  plan.patch_size = rule.patch_size;
  if (!rule.slice_mode) {
    ASSIGN_OR_RETURN(plan.overview, CheckedSize(sides, rule, "the overview"));
    return plan;
  }
  const double scale = rule.scale_resolution;
  const double overviews = sides.width * sides.height / (scale * scale);
  const int wanted =
      static_cast<int>(std::min(std::ceil(overviews), static_cast<double>(rule.max_slices)));
  const bool has_slices = wanted > 1;
  ASSIGN_OR_RETURN(plan.overview,
                   CheckedSize(BestResize(sides, rule, !has_slices), rule, "the overview"));
  if (!has_slices) return plan;

  // Each slice has a patch at least.
  if (wanted > kMaxSlicePatches) return TooManySlices(wanted);
  const Grid grid = BestGrid(sides, wanted, rule.max_slices);
  const Sides refined{NearestMultiple(sides.width, grid.columns),
                      NearestMultiple(sides.height, grid.rows)};
  const Sides slice =
      BestResize({refined.width / grid.columns, refined.height / grid.rows}, rule, true);
  ASSIGN_OR_RETURN(plan.slice, CheckedSize(slice, rule, "a slice"));
  const double patches = slice.width * slice.height / rule.patch_size / rule.patch_size;
  if (patches * grid.columns * grid.rows > kMaxSlicePatches)
    return TooManySlices(grid.columns * grid.rows);
  plan.grid_columns = grid.columns;
  plan.grid_rows = grid.rows;
  plan.refined = {plan.slice.width * grid.columns, plan.slice.height * grid.rows};
  return plan;
}

std::vector<Image> CutSubImages(const Image& image, const SlicePlan& plan) {
  std::vector<Image> sub_images;
  sub_images.reserve(plan.sub_images());
  sub_images.push_back(ResizeBicubic(image, plan.overview.width, plan.overview.height));
  if (plan.sub_images() == 1) return sub_images;
  const Image refined = ResizeBicubic(image, plan.refined.width, plan.refined.height);
  for (int row = 0; row < plan.grid_rows; ++row) {
    for (int column = 0; column < plan.grid_columns; ++column) {
      sub_images.push_back(Cut(refined, plan.slice, column, row));
    }
  }
  return sub_images;
}

}  // namespace minicpmv
