#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "runtime/base/check.h"
#include "runtime/tensor/dtype.h"

namespace minicpmv {

// Sizes of up to four axes, outermost first. An empty shape is one element.
class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) {
    CHECK_LE(sizes.size(), size_t{kMaxRank});
    for (int64_t size : sizes) sizes_[rank_++] = size;
  }

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return sizes_[axis]; }
  int64_t elements() const {
    int64_t product = 1;
    for (int i = 0; i < rank_; ++i) product *= sizes_[i];
    return product;
  }
  void Append(int64_t size) {
    CHECK_LT(rank_, kMaxRank);
    sizes_[rank_++] = size;
  }
  std::string ToString() const;  // "[3584, 512]"

  friend bool operator==(const Shape& a, const Shape& b) {
    return a.rank_ == b.rank_ && a.sizes_ == b.sizes_;
  }

 private:
  std::array<int64_t, kMaxRank> sizes_ = {};
  int rank_ = 0;
};

// Looks at dense row-major elements that somebody else owns, on the device of whoever handed it
// out. Copying one copies no element.
template <typename Void>
struct BasicTensorView {
  Void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  BasicTensorView() = default;
  BasicTensorView(Void* data, DType dtype, Shape shape) : data(data), dtype(dtype), shape(shape) {}
  // Any view may be looked at as a constant one.
  template <typename Other>
  requires(!std::is_same_v<Other, Void> && std::is_convertible_v<Other*, Void*>)
      BasicTensorView(const BasicTensorView<Other>& other)
      : data(other.data), dtype(other.dtype), shape(other.shape) {}

  // The first axis is rows; all others together are the columns.
  int64_t rows() const { return shape.rank() == 0 ? 1 : shape[0]; }
  int64_t columns() const { return rows() == 0 ? 0 : shape.elements() / rows(); }
  size_t bytes() const { return static_cast<size_t>(shape.elements()) * SizeOf(dtype); }

  // The part [first, first + count) of the first axis.
  BasicTensorView Rows(int64_t first, int64_t count) const {
    CHECK(first >= 0 && count >= 0 && count <= rows() - first)
        << first << "+" << count << " of " << rows();
    BasicTensorView part = *this;
    part.shape = Shape{count};
    for (int i = 1; i < shape.rank(); ++i) part.shape.Append(shape[i]);
    using Byte = std::conditional_t<std::is_const_v<Void>, const uint8_t, uint8_t>;
    part.data = static_cast<Byte*>(data) + static_cast<size_t>(first * columns()) * SizeOf(dtype);
    return part;
  }

  template <typename T>
  auto* as() const {
    CHECK_EQ(sizeof(T), SizeOf(dtype));
    using Pointer = std::conditional_t<std::is_const_v<Void>, const T*, T*>;
    return static_cast<Pointer>(data);
  }
};

using TensorView = BasicTensorView<void>;
using ConstTensorView = BasicTensorView<const void>;

}  // namespace minicpmv
