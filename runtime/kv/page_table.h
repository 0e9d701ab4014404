#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kv/page_pool.h"

namespace minicpmv {

// Pages that cover `tokens` positions.
constexpr int64_t PagesFor(int64_t tokens) {
  return tokens / kPageSize + (tokens % kPageSize != 0);
}

// Where the positions of one sequence lie: position p is in entry p / kPageSize. It knows token
// counts, not sequences. Gives its references back when it is destroyed; the pool outlives it.
class PageTable {
 public:
  explicit PageTable(PagePool& pool) : pool_(&pool) {}
  ~PageTable() { Clear(); }
  PageTable(PageTable&& other) noexcept;
  PageTable& operator=(PageTable&& other) noexcept;

  // Takes over one reference on each of `pages`, which are full and lie before all others: a prefix
  // that the index held. Only on an empty table.
  void Adopt(absl::Span<const int32_t> pages);

  // Grows until `tokens` positions have a place; never shrinks. RESOURCE_EXHAUSTED takes nothing.
  absl::Status Grow(int64_t tokens);

  // To be called before positions [first, first + count) are written: they have a place, and where
  // a page of theirs is shared, this table takes one of its own instead and adds to `copies` what
  // the step must copy before it writes. RESOURCE_EXHAUSTED changes nothing.
  absl::Status PrepareWrite(int64_t first, int64_t count, std::vector<PageCopy>* copies);
  // Pages that the pool must have free for that call to succeed.
  int64_t PagesToWrite(int64_t first, int64_t count) const;

  // A second table over the same pages; whoever writes first copies.
  PageTable Fork() const;

  // Gives all pages back.
  void Clear();

  absl::Span<const int32_t> pages() const { return pages_; }
  int64_t capacity() const { return static_cast<int64_t>(pages_.size()) * kPageSize; }  // positions

 private:
  PagePool* pool_;
  std::vector<int32_t> pages_;
};

}  // namespace minicpmv
