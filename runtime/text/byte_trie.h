#pragma once

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// Strings as paths of bytes from node 0. Nodes are numbered in the order of their making. One
// look-up a step.
class ByteTrie {
 public:
  static constexpr int32_t kNone = -1;

  // The node at the end of the text's path, made if need be.
  int32_t Insert(absl::string_view text) {
    int32_t node = 0;
    for (const char c : text) {
      const auto [edge, is_new] = edges_.try_emplace(Key(node, static_cast<uint8_t>(c)), nodes_);
      if (is_new) ++nodes_;
      node = edge->second;
    }
    return node;
  }

  int32_t Child(int32_t node, uint8_t byte) const {
    const auto edge = edges_.find(Key(node, byte));
    return edge == edges_.end() ? kNone : edge->second;
  }

  int32_t nodes() const { return nodes_; }

 private:
  static uint64_t Key(int32_t node, uint8_t byte) {
    return static_cast<uint64_t>(node) << 8 | byte;
  }

  absl::flat_hash_map<uint64_t, int32_t> edges_;
  int32_t nodes_ = 1;
};

}  // namespace minicpmv
