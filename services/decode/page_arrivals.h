#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/engine/handover.h"
#include "runtime/link/link.h"

namespace minicpmv {

// Which pages of a landing are here and which are still to come: each page of each layer lands
// once. One thread at a time.
class PageArrivals {
 public:
  PageArrivals(LandingPages pages, DType dtype);

  // Where a parcel goes; its pages are on their way from now on. INVALID_ARGUMENT says what of the
  // label does not fit: no pages, another dtype, a layer or positions that the landing does not
  // await, a run that does not begin or end where pages do, bytes that are not exactly those of its
  // pages, or a page that has landed or is on its way already.
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label);

  // A parcel that was placed is here, or will not come: then its pages may be sent again.
  void Landed(const ParcelLabel& label, bool is_here);

  int64_t held_tokens() const { return pages_.held_tokens(); }
  // Pages, counted in every layer.
  int64_t awaited() const { return static_cast<int64_t>(states_.size()); }
  int64_t landed() const { return landed_; }
  bool complete() const { return landed_ == awaited(); }

 private:
  enum class State : uint8_t { kMissing, kComing, kHere };
  struct Run {
    int64_t first = 0;  // of states_
    int64_t count = 0;
  };
  Run RunOf(const ParcelLabel& label) const;

  const LandingPages pages_;
  const DType dtype_;
  const int64_t pages_a_layer_;
  std::vector<State> states_;  // [layers][pages_a_layer_]
  int64_t landed_ = 0;
};

}  // namespace minicpmv
