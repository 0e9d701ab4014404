#include "tests/services/router/fake_model.h"

#include <algorithm>

#include "services/router/stable_hash.h"

namespace minicpmv::router {

uint64_t FakeAttention::CellOf(uint64_t input) const {
  return StableHash().Add(seen_).Add(input).value();
}

uint32_t FakeAttention::Choose(uint64_t seed, const std::vector<int32_t>& stops,
                               uint32_t vocabulary) const {
  const uint64_t draw = StableHash().Add(seen_).Add(seed).value();
  // With some seeds it always finds more to say.
  if (seed % 4 != 0 && draw % 24 == 0) return static_cast<uint32_t>(stops.front());
  uint32_t token = static_cast<uint32_t>(draw >> 32) % vocabulary;
  while (std::find(stops.begin(), stops.end(), static_cast<int32_t>(token)) != stops.end()) {
    token = (token + 1) % vocabulary;
  }
  return token;
}

uint64_t FakeRows(absl::string_view content) { return StableHash().Add(content).value(); }

uint64_t FakeRowInput(uint64_t rows, int64_t row) {
  return StableHash().Add(rows).Add(static_cast<uint64_t>(row)).value();
}

std::vector<uint64_t> FakeInputs(absl::Span<const int32_t> tokens,
                                 absl::Span<const PrefixSpan> spans) {
  std::vector<uint64_t> inputs(tokens.begin(), tokens.end());
  for (const PrefixSpan& span : spans) {
    const uint64_t rows = FakeRows(span.content);
    for (int64_t row = 0; row < span.count; ++row) {
      inputs[span.first + row] = FakeRowInput(rows, row);
    }
  }
  return inputs;
}

}  // namespace minicpmv::router
