#include "runtime/text/bpe.h"

#include <algorithm>
#include <functional>

#include "runtime/base/check.h"

namespace minicpmv {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

Bpe::Bpe(const std::array<int32_t, 256>& bytes, absl::Span<const Merge> merges) : bytes_(bytes) {
  CHECK_LT(merges.size(), size_t{kNoMerge});
  merged_.reserve(merges.size());
  ranks_.reserve(merges.size());
  for (const Merge& merge : merges) {
    ranks_[PairKey(merge.left, merge.right)] = static_cast<uint32_t>(merged_.size());
    merged_.push_back(merge.merged);
  }
}

uint32_t Bpe::RankOf(int32_t left, int32_t right) const {
  const auto rank = ranks_.find(PairKey(left, right));
  return rank == ranks_.end() ? kNoMerge : rank->second;
}

void Bpe::Encode(absl::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  CHECK_LE(piece.size(), size_t{INT32_MAX});
  const int32_t size = static_cast<int32_t>(piece.size());
  auto& symbols = scratch.symbols_;
  auto& queue =
      scratch.queue_;  // a heap of rank << 32 | position: the lowest rank first, then the leftmost
  symbols.resize(piece.size());
  queue.clear();
  for (int32_t i = 0; i < size; ++i) {
    symbols[i] = {bytes_[static_cast<uint8_t>(piece[i])], i - 1, i + 1, kNoMerge};
  }
  const auto find_rank = [&](int32_t at) {
    const int32_t next = symbols[at].next;
    symbols[at].rank = next < size ? RankOf(symbols[at].id, symbols[next].id) : kNoMerge;
    return symbols[at].rank != kNoMerge;
  };
  const auto queued = [&](int32_t at) {
    return uint64_t{symbols[at].rank} << 32 | static_cast<uint32_t>(at);
  };
  for (int32_t i = 0; i < size; ++i) {
    if (find_rank(i)) queue.push_back(queued(i));
  }
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const uint32_t rank = static_cast<uint32_t>(queue.back() >> 32);
    const int32_t at = static_cast<int32_t>(queue.back() & UINT32_MAX);
    queue.pop_back();
    auto& left = symbols[at];
    if (left.rank != rank)
      continue;  // one of the pair has been merged with another neighbour since
    auto& right = symbols[left.next];
    left.id = merged_[rank];
    left.next = right.next;
    right.rank = kNoMerge;
    if (left.next < size) symbols[left.next].previous = at;
    for (const int32_t changed : {left.previous, at}) {
      if (changed < 0 || !find_rank(changed)) continue;
      queue.push_back(queued(changed));
      std::push_heap(queue.begin(), queue.end(), std::greater<>());
    }
  }
  for (int32_t i = 0; i < size; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace minicpmv
