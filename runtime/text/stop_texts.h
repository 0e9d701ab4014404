#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/text/byte_trie.h"

namespace minicpmv {

// Ends a reply at the first of some texts, however the reply comes in pieces. Neither a stop text
// nor what follows it gets through; what comes through, joined, does not depend on where the pieces
// end. For one thread; a copy goes on from where the original stands.
//
// The first stop text is the one that ends first; of several that end at one place, the longest
// counts. The automaton is that of Aho and Corasick (1975), so time is linear in the text.
class StopTexts {
 public:
  static constexpr size_t kMaxTexts = 64;
  static constexpr size_t kMaxBytes = 1024;  // of one text

  // None at all is fine: everything comes through at once. INVALID_ARGUMENT: more than 64 texts, or
  // one that is empty, over 1024 bytes or not UTF-8.
  static absl::StatusOr<StopTexts> Create(std::vector<std::string> texts);

  // Takes the next piece, which is whole UTF-8, and returns what may be sent now, which is, too.
  // Only the longest end of the text that is the start of a stop text waits. After a match
  // stopped() is true and nothing is ever returned again.
  std::string Push(absl::string_view text);
  // The end of the reply: what still waited, as it did not become a stop text.
  std::string Finish();
  bool stopped() const { return stopped_; }

 private:
  struct Node {
    int32_t fallback = 0;  // the longest proper end of this node's string that is a node, too
    int32_t depth = 0;     // length of this node's string
    int32_t match = 0;     // length of the longest stop text at its end; 0: none
  };

  StopTexts() = default;
  int32_t Next(int32_t node, uint8_t byte) const;

  ByteTrie trie_;
  std::vector<Node> nodes_;
  int32_t node_ = 0;
  std::string waiting_;  // the string of node_
  bool stopped_ = false;
};

}  // namespace minicpmv
