#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "runtime/link/link.h"
#include "runtime/media/image.h"
#include "services/vision/encode_request.h"

namespace minicpmv::vision {

// Room for the pixels of slices that another worker has cut, and which of their lines are here.
// Each line lands once. One thread at a time.
class PixelArrivals {
 public:
  // Bytes of the pixels of all these.
  static int64_t BytesOf(const std::vector<SpanOfSlice>& spans, int patch_size);

  // RESOURCE_EXHAUSTED: no memory.
  static absl::StatusOr<PixelArrivals> Create(const std::vector<SpanOfSlice>& spans,
                                              int patch_size);

  // Where a parcel goes; its lines are on their way from now on. INVALID_ARGUMENT says what of the
  // label does not fit.
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label);

  // A slice all of whose lines are here: which of the spans that were handed to Create.
  struct Whole {
    int64_t span = 0;
    std::shared_ptr<const Image> pixels;  // null: not yet
  };
  // A parcel that was placed is here, or will not come: then its lines may be sent again.
  Whole Landed(const ParcelLabel& label, bool is_here);

  // All pixels of all spans are here.
  bool complete() const { return missing_ == 0; }

 private:
  enum class State : uint8_t { kMissing, kComing, kHere };
  struct Slice {
    std::shared_ptr<Image> pixels;  // null: handed out
    int64_t width = 0;
    std::vector<State> lines;
    int64_t missing = 0;  // lines
  };

  std::vector<Slice> slices_;
  absl::flat_hash_map<int64_t, int64_t> by_index_;  // the span's number in the prompt -> slices_
  int64_t missing_ = 0;                             // slices
};

}  // namespace minicpmv::vision
