#include "runtime/media/patches.h"

#include <cstddef>

#include "runtime/base/check.h"

namespace minicpmv {

void PatchRows(const Image& sub_image, int patch_size, absl::Span<const float> mean,
               absl::Span<const float> std, float* out) {
  CHECK_EQ(mean.size(), 3u);
  CHECK_EQ(std.size(), 3u);
  CHECK_GT(patch_size, 0);
  float normalised[3][256];
  for (int c = 0; c < 3; ++c) {
    for (int value = 0; value < 256; ++value) {
      normalised[c][value] = (static_cast<float>(value) / 255.0f - mean[c]) / std[c];
    }
  }
  const int rows = sub_image.height / patch_size;
  const int columns = sub_image.width / patch_size;
  const size_t row_bytes = size_t{3} * sub_image.width;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      const uint8_t* patch =
          sub_image.rgb.data() + (row * row_bytes + size_t{3} * column) * patch_size;
      for (int c = 0; c < 3; ++c) {
        for (int y = 0; y < patch_size; ++y) {
          const uint8_t* pixel = patch + y * row_bytes + c;
          for (int x = 0; x < patch_size; ++x, pixel += 3) *out++ = normalised[c][*pixel];
        }
      }
    }
  }
}

}  // namespace minicpmv
