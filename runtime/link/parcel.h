#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/link/link.h"

namespace minicpmv {

// INVALID_ARGUMENT: a number is negative or larger than any link carries, or the size is out of
// bounds. What is right for the landing only the landing knows.
absl::Status CheckLabel(const ParcelLabel& label);

// A parcel that has not begun to travel.
struct WaitingParcel {
  Parcel parcel;
  Ticket ticket;
};

// Takes those for one landing out of the line; the others keep their order.
std::vector<WaitingParcel> TakeFor(const LandingName& landing, std::deque<WaitingParcel>& line);

// Walks once over the bytes of dense views that lie anywhere, in order.
template <typename Void>
class ByteWalk {
 public:
  using Byte = std::conditional_t<std::is_const_v<Void>, const uint8_t, uint8_t>;

  ByteWalk() = default;
  explicit ByteWalk(std::vector<BasicTensorView<Void>> views) : views_(std::move(views)) {
    for (const auto& view : views_) left_ += view.bytes();
  }

  size_t left() const { return left_; }

  // The next bytes that lie together, at most `most` of them; at least one while any are left.
  absl::Span<Byte> Next(size_t most) {
    while (view_ < views_.size() && offset_ == views_[view_].bytes()) {
      ++view_;
      offset_ = 0;
    }
    if (view_ == views_.size()) return {};
    const size_t count = std::min(most, views_[view_].bytes() - offset_);
    Byte* const data = static_cast<Byte*>(views_[view_].data) + offset_;
    offset_ += count;
    left_ -= count;
    return {data, count};
  }

 private:
  std::vector<BasicTensorView<Void>> views_;
  size_t view_ = 0, offset_ = 0, left_ = 0;
};

using ByteReader = ByteWalk<const void>;
using ByteWriter = ByteWalk<void>;

}  // namespace minicpmv
