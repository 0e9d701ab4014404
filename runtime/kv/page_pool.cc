#include "runtime/kv/page_pool.h"

#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace minicpmv {

PagePool::PagePool(int64_t pages) {
  CHECK(pages >= 0 && pages <= std::numeric_limits<int32_t>::max()) << pages;
  references_.resize(pages);
  is_kept_.resize(pages);
  free_.reserve(pages);
  for (int64_t page = pages - 1; page >= 0; --page) free_.push_back(static_cast<int32_t>(page));
}

PagePool::~PagePool() { CHECK_EQ(free_pages(), pages()); }

absl::StatusOr<std::vector<int32_t>> PagePool::Take(int64_t count) {
  CHECK_GE(count, 0);
  if (count > free_pages()) {
    return absl::ResourceExhaustedError(
        absl::StrCat(count, " pages wanted, ", free_pages(), " of ", pages(), " are free"));
  }
  std::vector<int32_t> taken(free_.rbegin(), free_.rbegin() + count);
  free_.resize(free_.size() - count);
  for (int32_t page : taken) references_[page] = 1;
  return taken;
}

void PagePool::Share(int32_t page) {
  CHECK_GT(references(page), 0) << "page " << page;
  if (++references_[page] == 2 && is_kept_[page]) --idle_pages_;
}

void PagePool::Release(int32_t page) {
  CHECK_GT(references(page), 0) << "page " << page;
  const int32_t left = --references_[page];
  CHECK(left > 0 || !is_kept_[page]) << "page " << page << " is still kept";
  if (left == 0) free_.push_back(page);
  if (left == 1 && is_kept_[page]) ++idle_pages_;
}

void PagePool::Keep(int32_t page) {
  Share(page);
  CHECK(!is_kept_[page]) << "page " << page;
  is_kept_[page] = true;
}

void PagePool::Drop(int32_t page) {
  CHECK(is_kept_[page]) << "page " << page;
  if (references(page) == 1) --idle_pages_;
  is_kept_[page] = false;
  Release(page);
}

int64_t PagePool::references(int32_t page) const {
  CHECK(page >= 0 && page < pages()) << page << " of " << pages();
  return references_[page];
}

}  // namespace minicpmv
