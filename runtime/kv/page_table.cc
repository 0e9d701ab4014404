#include "runtime/kv/page_table.h"

#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {

PageTable::PageTable(PageTable&& other) noexcept
    : pool_(other.pool_), pages_(std::exchange(other.pages_, {})) {}

PageTable& PageTable::operator=(PageTable&& other) noexcept {
  if (this == &other) return *this;
  Clear();
  pool_ = other.pool_;
  pages_ = std::exchange(other.pages_, {});
  return *this;
}

void PageTable::Adopt(absl::Span<const int32_t> pages) {
  CHECK(pages_.empty()) << pages_.size();
  pages_.assign(pages.begin(), pages.end());
}

absl::Status PageTable::Grow(int64_t tokens) {
  const int64_t more = PagesFor(tokens) - static_cast<int64_t>(pages_.size());
  if (more <= 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<int32_t> taken, pool_->Take(more));
  pages_.insert(pages_.end(), taken.begin(), taken.end());
  return absl::OkStatus();
}

int64_t PageTable::PagesToWrite(int64_t first, int64_t count) const {
  if (count == 0) return 0;
  const int64_t held = static_cast<int64_t>(pages_.size());
  const int64_t last = PagesFor(first + count);
  int64_t wanted = last > held ? last - held : 0;
  for (int64_t i = first / kPageSize; i < held && i < last; ++i) {
    wanted += pool_->references(pages_[i]) > 1;
  }
  return wanted;
}

absl::Status PageTable::PrepareWrite(int64_t first, int64_t count, std::vector<PageCopy>* copies) {
  CHECK(first >= 0 && count >= 0) << first << "+" << count;
  const int64_t held = static_cast<int64_t>(pages_.size());
  ASSIGN_OR_RETURN(const std::vector<int32_t> taken, pool_->Take(PagesToWrite(first, count)));
  auto next = taken.begin();
  const int64_t last = PagesFor(first + count);
  for (int64_t i = first / kPageSize; i < held && i < last; ++i) {
    if (pool_->references(pages_[i]) == 1) continue;
    copies->push_back({pages_[i], *next});
    pool_->Release(pages_[i]);
    pages_[i] = *next++;
  }
  pages_.insert(pages_.end(), next, taken.end());
  return absl::OkStatus();
}

PageTable PageTable::Fork() const {
  PageTable fork(*pool_);
  for (int32_t page : pages_) pool_->Share(page);
  fork.pages_ = pages_;
  return fork;
}

void PageTable::Clear() {
  // The first page is the last to come back, so that the next taker gets it first.
  while (!pages_.empty()) {
    pool_->Release(pages_.back());
    pages_.pop_back();
  }
}

}  // namespace minicpmv
