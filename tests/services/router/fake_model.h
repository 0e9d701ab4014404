#pragma once

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/kv/prefix_index.h"

namespace minicpmv::router {

// A model of arithmetic alone, and as particular as a real one: what a position leaves in the cache
// depends on all cells before it, and so does the token that is chosen. One wrong cell shows.
class FakeAttention {
 public:
  // The cell of the next position.
  void See(uint64_t cell) { seen_ += cell * (2 * ++positions_ + 1); }
  // What the next position leaves.
  uint64_t CellOf(uint64_t input) const;
  // The greedy choice after what was seen, a function of the seed, too.
  uint32_t Choose(uint64_t seed, const std::vector<int32_t>& stops, uint32_t vocabulary) const;

 private:
  uint64_t positions_ = 0;
  uint64_t seen_ = 0;
};

// What a vision tower makes of a span's content (see PrefixSpan), all its rows in one number.
uint64_t FakeRows(absl::string_view content);
// The input of a row's position.
uint64_t FakeRowInput(uint64_t rows, int64_t row);
// The inputs of a prompt whose rows are all there.
std::vector<uint64_t> FakeInputs(absl::Span<const int32_t> tokens,
                                 absl::Span<const PrefixSpan> spans);

}  // namespace minicpmv::router
