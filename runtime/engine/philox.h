#pragma once

#include <array>
#include <cstdint>

namespace minicpmv {

// Philox4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011):
// a bijection of the counter under the key, so that any number of a stream can be had by itself.
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// What a coin is tossed for: two purposes never share one.
enum class CoinPurpose : uint32_t { kToken = 0 };

// A number in [0, 1), a multiple of 2^-53. The same on every machine: it depends on the seed, the
// reply of the request (`choice`), the position in the sequence that the token will take, and the
// purpose.
double TossCoin(uint64_t seed, uint32_t choice, int64_t position, CoinPurpose purpose);

}  // namespace minicpmv
