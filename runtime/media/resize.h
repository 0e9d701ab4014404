#pragma once

#include "runtime/media/image.h"

namespace minicpmv {

// Pillow's resize((width, height), BICUBIC), bit for bit: two passes, horizontal first, each
// antialiased when it shrinks, in fixed point of 22 bits, rounded to 8 bits between them. A pass
// whose side does not change is skipped. width, height: at least 1, as are the image's. Needs
// memory for 3 * width * image.height bytes beside the result.
Image ResizeBicubic(const Image& image, int width, int height);

}  // namespace minicpmv
