#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace minicpmv::router {

// The same number in every process, so that two routers make the same choices. Not for secrets.
class StableHash {
 public:
  StableHash& Add(absl::string_view text) {
    for (const char c : text) state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    return Add(text.size());  // so that two texts are not taken for one
  }
  StableHash& Add(uint64_t number) {
    state_ = Mix(state_ ^ number);
    return *this;
  }
  uint64_t value() const { return Mix(state_); }

 private:
  static uint64_t Mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  uint64_t state_ = 0xcbf29ce484222325;
};

}  // namespace minicpmv::router
