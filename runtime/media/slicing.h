#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "runtime/media/image.h"

namespace minicpmv {

// How MiniCPM-V looks at a picture: an overview of the whole, and, when the picture has far more
// pixels than that, slices of an enlarged copy. Overview and slices together are its sub-images.
// The plan needs the picture's size only, so a prompt can be laid out before any pixel is decoded.

struct Size {
  int width = 0;  // pixels
  int height = 0;
};

struct SliceRule {
  int scale_resolution = 448;  // a sub-image has about this number squared of pixels
  int patch_size = 14;         // sides are multiples of this
  int max_slices = 9;          // 1: overview only
  bool slice_mode = true;      // false: one sub-image, the picture as it is, without any resizing
};

struct PatchGrid {
  int rows = 0;
  int columns = 0;
};

struct SlicePlan {
  Size overview;
  int grid_columns = 0;  // 0 x 0: no slices
  int grid_rows = 0;
  Size refined;  // what the picture is resized to before it is cut into slices
  Size slice;    // refined / grid
  int patch_size = 14;

  int sub_images() const { return 1 + grid_columns * grid_rows; }
  // Patches of sub-image i: 0 is the overview, then slices row by row. Without slice_mode sides
  // need not be multiples of the patch size; what is left over is not looked at.
  PatchGrid patches(int i) const;
};

// A sub-image of more patches is refused, and so are slices of more in all: a limit for shapes and
// rules that nobody means.
inline constexpr int kMaxPatches = 16384;
inline constexpr int kMaxSlicePatches = 1 << 18;
inline constexpr int kMaxPatchSize = 128;

// The original's arithmetic: IEEE doubles, halves rounded to even, natural logarithms.
// INVALID_ARGUMENT: a sub-image would have more than kMaxPatches patches, or none; the slices would
// have more than kMaxSlicePatches; a side or a number of the rule is below 1, or patch_size above
// kMaxPatchSize.
absl::StatusOr<SlicePlan> PlanSlices(Size image, const SliceRule& rule);

// Every sub-image in the order of the plan, which must be made for a picture of this size. Overview
// and refined copy are both resized from the picture itself.
std::vector<Image> CutSubImages(const Image& image, const SlicePlan& plan);

}  // namespace minicpmv
