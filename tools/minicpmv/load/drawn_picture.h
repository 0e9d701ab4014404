#pragma once

#include <cstdint>
#include <string>

namespace minicpmv {

// A PNG of shapes in colours, of that size in pixels (both at least 1). One seed draws the same
// picture everywhere; different ones differ.
std::string DrawPicture(int width, int height, uint64_t seed);

}  // namespace minicpmv
