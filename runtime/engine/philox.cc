#include "runtime/engine/philox.h"

namespace minicpmv {

std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

double TossCoin(uint64_t seed, uint32_t choice, int64_t position, CoinPurpose purpose) {
  const uint64_t at = static_cast<uint64_t>(position);
  const std::array<uint32_t, 4> words =
      Philox({static_cast<uint32_t>(at), static_cast<uint32_t>(at >> 32), choice,
              static_cast<uint32_t>(purpose)},
             {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = uint64_t{words[0]} << 32 | words[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace minicpmv
