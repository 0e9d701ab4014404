#include "runtime/text/stop_texts.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/text/utf8.h"

namespace minicpmv {

absl::StatusOr<StopTexts> StopTexts::Create(std::vector<std::string> texts) {
  if (texts.size() > kMaxTexts) {
    return absl::InvalidArgumentError(
        absl::StrCat(texts.size(), " stop texts, not at most ", kMaxTexts));
  }
  StopTexts stops;
  stops.nodes_.emplace_back();
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string& text = texts[i];
    if (text.empty()) return absl::InvalidArgumentError(absl::StrCat("stop text ", i, " is empty"));
    if (text.size() > kMaxBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop text ", i, " has ", text.size(), " bytes, not at most ", kMaxBytes));
    }
    if (FindInvalidUtf8(text).has_value()) {
      return absl::InvalidArgumentError(absl::StrCat("stop text ", i, " is not UTF-8"));
    }
    const int32_t end = stops.trie_.Insert(text);
    stops.nodes_.resize(stops.trie_.nodes());
    stops.nodes_[end].match = static_cast<int32_t>(text.size());
  }
  // By rising depth, so that a fallback, which is shorter, is known before it is needed.
  std::vector<int32_t> at(texts.size(), 0);  // each text's node at this depth
  for (size_t depth = 0; depth < kMaxBytes; ++depth) {
    for (size_t i = 0; i < texts.size(); ++i) {
      if (depth >= texts[i].size()) continue;
      const uint8_t byte = static_cast<uint8_t>(texts[i][depth]);
      const int32_t parent = at[i];
      at[i] = stops.trie_.Child(parent, byte);
      Node& node = stops.nodes_[at[i]];
      node.depth = static_cast<int32_t>(depth) + 1;
      node.fallback = parent == 0 ? 0 : stops.Next(stops.nodes_[parent].fallback, byte);
      if (node.match == 0) node.match = stops.nodes_[node.fallback].match;
    }
  }
  return stops;
}

int32_t StopTexts::Next(int32_t node, uint8_t byte) const {
  while (true) {
    const int32_t child = trie_.Child(node, byte);
    if (child != ByteTrie::kNone) return child;
    if (node == 0) return 0;
    node = nodes_[node].fallback;
  }
}

std::string StopTexts::Push(absl::string_view text) {
  if (stopped_) return "";
  absl::StrAppend(&waiting_, text);
  const size_t old = waiting_.size() - text.size();
  for (size_t i = 0; i < text.size(); ++i) {
    node_ = Next(node_, static_cast<uint8_t>(text[i]));
    const size_t match = nodes_[node_].match;
    if (match == 0) continue;
    stopped_ = true;
    return std::exchange(waiting_, "").substr(0, old + i + 1 - match);
  }
  const size_t certain = waiting_.size() - nodes_[node_].depth;
  std::string sent = waiting_.substr(0, certain);
  waiting_.erase(0, certain);
  return sent;
}

std::string StopTexts::Finish() {
  node_ = 0;
  return std::exchange(waiting_, "");
}

}  // namespace minicpmv
