#pragma once

#include "runtime/media/image.h"

namespace minicpmv {

// Orientations 5 to 8 lay the picture on its side: width and height change places.
inline bool SwapsSides(int orientation) { return orientation >= 5; }

// Turns and mirrors the stored pixels so that the picture stands upright. orientation: 1-8, as EXIF
// counts.
Image Upright(Image image, int orientation);

}  // namespace minicpmv
