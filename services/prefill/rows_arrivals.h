#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/engine/sequence.h"
#include "runtime/link/link.h"

namespace minicpmv::prefill {

// Room for the embedding rows of a prompt's spans, and which of them are here: each row lands once.
// One thread at a time.
class RowsArrivals {
 public:
  // Rows are [count, hidden] of `dtype`. Spans that end within the first `held_tokens` positions
  // need none. RESOURCE_EXHAUSTED: the device has no room.
  static absl::StatusOr<RowsArrivals> Create(Device& device,
                                             const std::vector<SequenceRequest::Span>& spans,
                                             int64_t held_tokens, int64_t hidden, DType dtype);

  // Where a parcel goes; its rows are on their way from now on. INVALID_ARGUMENT says what of the
  // label does not fit: no rows, another dtype, a span that there is not or that needs none, rows
  // outside it, bytes that are not exactly theirs, or a row that is here or on its way already.
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label);

  // A parcel that was placed is here, or will not come: then its rows may be sent again. Returns
  // the rows of the span if they are all here now.
  std::optional<ConstTensorView> Landed(const ParcelLabel& label, bool is_here);

  // All of whose rows have landed.
  int64_t landed_spans() const { return landed_spans_; }
  // Half of what is awaited is here.
  bool half_landed() const { return 2 * landed_rows_ >= awaited_rows_; }

 private:
  enum class State : uint8_t { kMissing, kComing, kHere };
  struct Span {
    TensorView rows;            // none: they are not needed
    std::vector<State> states;  // of each row
    int64_t missing = 0;        // not here yet
  };

  std::unique_ptr<Buffer> buffer_;  // of all spans
  std::vector<Span> spans_;
  DType dtype_ = DType::kF32;
  int64_t landed_spans_ = 0;
  int64_t awaited_rows_ = 0, landed_rows_ = 0;
};

}  // namespace minicpmv::prefill
