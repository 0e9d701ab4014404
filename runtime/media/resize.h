#pragma once

#include "runtime/media/image.h"

namespace minicpmv {

// Pillow's resize((width, height), BICUBIC), bit for bit: two passes, each antialiased when it
// shrinks, in fixed point of 22 bits, rounded to 8 bits between them. A pass whose side does not
// change is skipped. The horizontal pass goes first unless the vertical one takes away more than
// twice as many rows as the horizontal one takes columns: so Pillow 13 (observed on thousands of
// random sizes), and so the recorded answers of the original; Pillow 10 always began horizontally.
// width, height: at least 1, as are the image's. Needs memory for the picture between the passes
// beside the result.
Image ResizeBicubic(const Image& image, int width, int height);

}  // namespace minicpmv
