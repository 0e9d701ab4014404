#include "tools/minicpmv/load/drawn_picture.h"

#include <png.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "runtime/base/check.h"

namespace minicpmv {
namespace {

constexpr int kShapes = 6;

using Colour = std::array<uint8_t, 3>;

Colour DrawColour(std::mt19937_64& random) {
  const uint64_t bits = random();
  return {static_cast<uint8_t>(bits), static_cast<uint8_t>(bits >> 8),
          static_cast<uint8_t>(bits >> 16)};
}

// A rectangle, or the ellipse within it.
struct Shape {
  int left, top, right, bottom;  // the last two are outside
  bool is_round;
  Colour colour;

  bool Covers(int x, int y) const {
    if (!is_round) return true;
    const double across = (2.0 * x - left - right) / (right - left);
    const double down = (2.0 * y - top - bottom) / (bottom - top);
    return across * across + down * down <= 1;
  }
};

Shape DrawShape(int width, int height, std::mt19937_64& random) {
  const auto below = [&](int limit) { return static_cast<int>(random() % limit); };
  const int left = below(width), top = below(height);
  return {left,
          top,
          std::min(width, left + 1 + below(width)),
          std::min(height, top + 1 + below(height)),
          random() % 2 == 0,
          DrawColour(random)};
}

}  // namespace

std::string DrawPicture(int width, int height, uint64_t seed) {
  CHECK(width > 0 && height > 0) << width << "x" << height;
  std::mt19937_64 random(seed);
  const Colour ground = DrawColour(random);
  std::vector<uint8_t> pixels(size_t{3} * width * height);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = ground[i % 3];
  for (int i = 0; i < kShapes; ++i) {
    const Shape shape = DrawShape(width, height, random);
    for (int y = shape.top; y < shape.bottom; ++y) {
      for (int x = shape.left; x < shape.right; ++x) {
        if (!shape.Covers(x, y)) continue;
        std::copy(shape.colour.begin(), shape.colour.end(),
                  pixels.begin() + 3 * (ptrdiff_t{y} * width + x));
      }
    }
  }

  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = PNG_FORMAT_RGB;
  image.flags = PNG_IMAGE_FLAG_FAST;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string png(size, '\0');
  CHECK(png_image_write_to_memory(&image, png.data(), &size, 0, pixels.data(), 0, nullptr) != 0)
      << image.message;
  png.resize(size);
  return png;
}

}  // namespace minicpmv
