#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace minicpmv {

// Which pages are free and how many hold each of the others: bookkeeping without bytes. A page is a
// number in [0, pages()) that means the same place in every layer of every stage. The order in
// which pages are given out depends on the calls only, so runs repeat. One thread at a time.
//
// A page may have a keeper among those who hold it: somebody who can do without it. A kept page
// that nobody else holds is idle.
class PagePool {
 public:
  // `pages` >= 0.
  explicit PagePool(int64_t pages);
  // Every page must have come back: a page still held is a bug.
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // `count` pages, each with one reference. RESOURCE_EXHAUSTED takes none of them.
  absl::StatusOr<std::vector<int32_t>> Take(int64_t count);
  // One reference more on a page that somebody holds.
  void Share(int32_t page);
  // One reference less. Without any, the page is the first that goes out again: whoever releases it
  // knows that no queued step will read it.
  void Release(int32_t page);

  // The keeper's reference, on a page that somebody holds and nobody keeps.
  void Keep(int32_t page);
  // Gives it back.
  void Drop(int32_t page);

  // How many hold the page, its keeper included; 0 if it is free.
  int64_t references(int32_t page) const;
  int64_t pages() const { return static_cast<int64_t>(references_.size()); }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  int64_t idle_pages() const { return idle_pages_; }

 private:
  std::vector<int32_t> references_;  // [pages]
  std::vector<bool> is_kept_;        // [pages]
  int64_t idle_pages_ = 0;           // kept, and with one reference
  std::vector<int32_t> free_;        // the last one goes out first
};

}  // namespace minicpmv
