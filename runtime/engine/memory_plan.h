#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/model/decoder.h"

namespace minicpmv {

// Runs of layers, one a stage, whose largest number of bytes read in a step is as small as it can
// be; the head counts to the last one. Of equal splits the one whose first stages have more layers.
// The embedding does not count: a step reads a few rows of it. INVALID_ARGUMENT: more stages than
// layers.
absl::StatusOr<std::vector<LayerRange>> BalanceLayers(const DecoderBytes& bytes, int stages);

// "0-2,3-4": first and last layer of each stage. Every layer of [0, layers) once, in order;
// `stages` runs. INVALID_ARGUMENT says which part is wrong and why.
absl::StatusOr<std::vector<LayerRange>> ParseSplit(absl::string_view text, int64_t layers,
                                                   int stages);

// How many pages every stage gets: the number that is the least over stages of budget / page bytes.
struct StageRoom {
  uint64_t budget = 0;      // bytes for the cache
  uint64_t page_bytes = 0;  // of all its layers
};
// RESOURCE_EXHAUSTED: a stage has no room for one page.
absl::StatusOr<int64_t> PagesWithin(const std::vector<StageRoom>& rooms);

// Pages for `sequences` sequences of `tokens` tokens each, and no more than a page number can name.
int64_t PagesForSequences(int64_t sequences, int64_t tokens);

}  // namespace minicpmv
