#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace minicpmv {

// Byte pair encoding (Sennrich et al., 2016): a piece begins as its bytes; of all neighbours that
// may be merged, the pair of the lowest rank is, the leftmost of equal ones first, until none is
// left. Immutable and thread-safe.
class Bpe {
 public:
  struct Merge {
    int32_t left;
    int32_t right;
    int32_t merged;
  };

  // Room for one piece, kept from piece to piece. 24 bytes for each byte of the longest piece so
  // far.
  class Scratch {
    friend class Bpe;
    struct Symbol {
      int32_t id;
      int32_t previous;  // -1: none
      int32_t next;      // the piece's size: none
      uint32_t rank;     // of the merge with the next symbol
    };
    std::vector<Symbol> symbols_;
    std::vector<uint64_t> queue_;
  };

  // `bytes`: the token of each byte. `merges`: in the order of their ranks; of equal pairs the last
  // counts.
  Bpe(const std::array<int32_t, 256>& bytes, absl::Span<const Merge> merges);

  // Appends the tokens of `piece` (below 2^31 bytes), in O(n log n).
  void Encode(absl::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  static constexpr uint32_t kNoMerge = UINT32_MAX;

  uint32_t RankOf(int32_t left, int32_t right) const;

  const std::array<int32_t, 256> bytes_;
  std::vector<int32_t> merged_;                    // by rank
  absl::flat_hash_map<uint64_t, uint32_t> ranks_;  // of a pair
};

}  // namespace minicpmv
