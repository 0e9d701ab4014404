#include "runtime/media/resize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/base/check.h"

namespace minicpmv {
namespace {

constexpr int kFractionBits = 22;
constexpr int kHalf = 1 << (kFractionBits - 1);

// Keys' cubic with a = -0.5. The order of the products is Pillow's.
double Cubic(double t) {
  constexpr double a = -0.5;
  t = std::abs(t);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
  return 0;
}

// For each place along one axis of the result: which places of the input it is made of, and their
// weights.
class Taps {
 public:
  Taps(int in, int out) : first_(out), count_(out) {
    const double scale = static_cast<double>(in) / out;
    const double filter_scale = std::max(scale, 1.0);
    const double support = 2 * filter_scale;
    const double inverse = 1 / filter_scale;
    stride_ = static_cast<size_t>(std::ceil(support)) * 2 + 1;
    weights_.resize(stride_ * out);
    std::vector<double> exact(stride_);
    for (int i = 0; i < out; ++i) {
      const double centre = (i + 0.5) * scale;
      first_[i] = std::max(static_cast<int>(centre - support + 0.5), 0);
      count_[i] = std::min(static_cast<int>(centre + support + 0.5), in) - first_[i];
      CHECK(count_[i] > 0 && static_cast<size_t>(count_[i]) <= stride_)
          << in << " to " << out << " at " << i;
      double sum = 0;
      for (int k = 0; k < count_[i]; ++k)
        sum += exact[k] = Cubic((k + first_[i] - centre + 0.5) * inverse);
      for (int k = 0; k < count_[i]; ++k) {
        const double weight = (sum != 0 ? exact[k] / sum : exact[k]) * (1 << kFractionBits);
        weights_[i * stride_ + k] = static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
      }
    }
  }

  int first(int i) const { return first_[i]; }
  int count(int i) const { return count_[i]; }
  const int32_t* weights(int i) const { return weights_.data() + i * stride_; }  // [count(i)]

 private:
  size_t stride_;
  std::vector<int> first_;
  std::vector<int> count_;
  std::vector<int32_t> weights_;  // [out, stride_]
};

uint8_t Rounded(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
}

Image ResizeRows(const Image& image, int width) {
  const Taps taps(image.width, width);
  Image resized{width, image.height, std::vector<uint8_t>(size_t{3} * width * image.height)};
  uint8_t* out = resized.rgb.data();
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* row = image.rgb.data() + size_t{3} * image.width * y;
    for (int x = 0; x < width; ++x, out += 3) {
      const uint8_t* pixel = row + size_t{3} * taps.first(x);
      const int32_t* weights = taps.weights(x);
      int32_t red = kHalf, green = kHalf, blue = kHalf;
      for (int k = 0; k < taps.count(x); ++k, pixel += 3) {
        red += pixel[0] * weights[k];
        green += pixel[1] * weights[k];
        blue += pixel[2] * weights[k];
      }
      out[0] = Rounded(red);
      out[1] = Rounded(green);
      out[2] = Rounded(blue);
    }
  }
  return resized;
}

Image ResizeColumns(const Image& image, int height) {
  const Taps taps(image.height, height);
  const size_t row_bytes = size_t{3} * image.width;
  Image resized{image.width, height, std::vector<uint8_t>(row_bytes * height)};
  for (int y = 0; y < height; ++y) {
    const uint8_t* rows = image.rgb.data() + row_bytes * taps.first(y);
    const int32_t* weights = taps.weights(y);
    uint8_t* out = resized.rgb.data() + row_bytes * y;
    // A strip of sums stays in the nearest cache while the rows above each other are added to it.
    constexpr size_t kStrip = 1024;
    int32_t sums[kStrip];
    for (size_t begin = 0; begin < row_bytes; begin += kStrip) {
      const size_t size = std::min(kStrip, row_bytes - begin);
      std::fill_n(sums, size, kHalf);
      for (int k = 0; k < taps.count(y); ++k) {
        const uint8_t* row = rows + k * row_bytes + begin;
        const int32_t weight = weights[k];
        for (size_t i = 0; i < size; ++i) sums[i] += row[i] * weight;
      }
      for (size_t i = 0; i < size; ++i) out[begin + i] = Rounded(sums[i]);
    }
  }
  return resized;
}

}  // namespace

Image ResizeBicubic(const Image& image, int width, int height) {
  CHECK(width > 0 && height > 0) << width << " x " << height;
  CHECK(image.width > 0 && image.height > 0) << image.width << " x " << image.height;
  if (width == image.width) return height == image.height ? image : ResizeColumns(image, height);
  const int64_t rows_lost = int64_t{image.height} - height;
  const int64_t columns_lost = int64_t{image.width} - width;
  if (rows_lost > 0 && rows_lost > 2 * columns_lost)
    return ResizeRows(ResizeColumns(image, height), width);
  const Image wide = ResizeRows(image, width);
  return height == image.height ? wide : ResizeColumns(wide, height);
}

}  // namespace minicpmv
