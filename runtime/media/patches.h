#pragma once

#include "absl/types/span.h"
#include "runtime/media/image.h"

namespace minicpmv {

// Lays out a sub-image for the vision tower, one row a patch, so that the patch embedding is one
// matrix product with the convolution's weights [out, 3 * P * P] as they are stored.
//   out[p][c * P * P + y * P + x] = (pixel / 255 - mean[c]) / std[c], every step in float32, where
//   the pixel is channel c of row (p / columns) * P + y, column (p % columns) * P + x, and columns
//   = sub_image.width / P.
// mean, std: 3 channels each. out: [rows * columns, 3 * P * P] float32, written whole. Sides that
// are no multiple of P are cut.
void PatchRows(const Image& sub_image, int patch_size, absl::Span<const float> mean,
               absl::Span<const float> std, float* out);

}  // namespace minicpmv
