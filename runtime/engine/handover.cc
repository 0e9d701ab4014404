#include "runtime/engine/handover.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace minicpmv {

absl::StatusOr<std::vector<TensorView>> LandingPages::Places(int64_t layer, int64_t first,
                                                             int64_t count) const {
  if (layer < 0 || layer >= layers()) {
    return absl::OutOfRangeError(absl::StrCat("layer ", layer, " of ", layers()));
  }
  if (first < held_tokens_ || count < 1 || first > tokens_ || count > tokens_ - first) {
    return absl::OutOfRangeError(absl::StrCat(count, " positions from ", first,
                                              " do not lie in [", held_tokens_, ", ", tokens_,
                                              "), which are awaited"));
  }
  const int64_t end = first + count;
  if (first % kPageSize != 0 || (end % kPageSize != 0 && end != tokens_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("positions [", first, ", ", end, ") are not whole pages of ", kPageSize,
                     " up to the end of the prompt, ", tokens_));
  }
  const CacheLayer& cache = layers_[layer];
  std::vector<TensorView> places;
  for (int64_t page = first / kPageSize; page * kPageSize < end; ++page) {
    places.push_back(cache.Page(pages_[page]));
  }
  return places;
}

}  // namespace minicpmv
