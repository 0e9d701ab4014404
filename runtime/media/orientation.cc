#include "runtime/media/orientation.h"

#include <cstddef>

#include "runtime/base/check.h"

namespace minicpmv {

Image Upright(Image image, int orientation) {
  CHECK(orientation >= 1 && orientation <= 8) << orientation;
  if (orientation == 1) return image;
  const ptrdiff_t width = image.width;
  const ptrdiff_t height = image.height;
  Image upright{image.width, image.height, std::vector<uint8_t>(image.rgb.size())};
  if (SwapsSides(orientation)) std::swap(upright.width, upright.height);

  // EXIF names the edges of the upright picture that the stored row 0 and column 0 lie on. So
  // walking the upright picture means walking the stored one from a corner, by `right` bytes for a
  // step right and `down` for a step down.
  const ptrdiff_t x = 3;
  const ptrdiff_t y = 3 * width;
  const ptrdiff_t last_x = x * (width - 1);
  const ptrdiff_t last_y = y * (height - 1);
  struct Walk {
    ptrdiff_t corner, right, down;
  };
  const Walk walks[] = {
      {last_x, -x, y},            // 2: mirrored
      {last_x + last_y, -x, -y},  // 3: upside down
      {last_y, x, -y},            // 4: upside down and mirrored
      {0, y, x},                  // 5: transposed
      {last_y, -y, x},            // 6: needs a quarter turn clockwise
      {last_x + last_y, -y, -x},  // 7: transposed about the other diagonal
      {last_x, y, -x},            // 8: needs a quarter turn counter-clockwise
  };
  const Walk walk = walks[orientation - 2];
  uint8_t* out = upright.rgb.data();
  for (int row = 0; row < upright.height; ++row) {
    const uint8_t* in = image.rgb.data() + walk.corner + row * walk.down;
    for (int column = 0; column < upright.width; ++column) {
      const uint8_t* pixel = in + column * walk.right;
      *out++ = pixel[0];
      *out++ = pixel[1];
      *out++ = pixel[2];
    }
  }
  return upright;
}

}  // namespace minicpmv
