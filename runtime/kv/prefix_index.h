#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "runtime/kv/page_pool.h"

namespace minicpmv {

// SHA-256 of everything that a page's content depends on: its own tokens and all that lies before
// them.
using PageKey = std::array<uint8_t, 32>;

// What must be equal beside the tokens for two caches to hold the same bytes. Pages of one scope
// are never found from another.
struct PrefixContext {
  std::string model_fingerprint;
  std::string cache_layout;    // dtype, heads and head size of the cache
  std::string numerics_class;  // Kernels::numerics_class()
  std::string cache_scope;     // the tenant
};

// A span of embedding rows among the tokens.
struct PrefixSpan {
  int64_t first = 0;  // position of its first row
  int64_t count = 0;
  // Names the rows wherever they come from: equal texts mean equal rows (the medium's digest, which
  // part of it at which size, options of encoding). "": they have no name, and no page has a key
  // from the span's first one on.
  std::string content = {};
};

// Keys of the full pages at the start of a sequence, in order, made as the sequence grows. Two
// sequences share a key exactly if context, tokens and spans agree from position 0 to the page's
// end.
class PageKeyChain {
 public:
  explicit PageKeyChain(const PrefixContext& context);

  // Adds the keys of pages that are full now. `tokens`: all so far, those of earlier calls first;
  // `spans`: always the same; they rise and do not overlap.
  void Extend(absl::Span<const int32_t> tokens, absl::Span<const PrefixSpan> spans);

  absl::Span<const PageKey> keys() const { return keys_; }

 private:
  PageKey start_;
  std::vector<PageKey> keys_;
  size_t span_ = 0;         // the first one that does not end before the next page
  bool is_broken_ = false;  // by a span without a name
};

// All keys at once.
std::vector<PageKey> PageKeysOf(const PrefixContext& context, absl::Span<const int32_t> tokens,
                                absl::Span<const PrefixSpan> spans);

// Full pages that may be used again, by key. The index keeps each of its pages (see PagePool);
// those that are idle can be reclaimed, least recently used first. One thread at a time.
class PrefixIndex {
 public:
  // The pool outlives the index.
  explicit PrefixIndex(PagePool& pool) : pool_(pool) {}
  ~PrefixIndex();
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  struct Hit {
    std::vector<int32_t> pages;  // from the first one on; the caller owns one reference on each
    int64_t tokens = 0;          // positions that they hold
  };
  // The longest run of known pages from the first key on. A caller that still has to compute
  // something (the last prompt token) hands in the keys of the tokens before it only.
  Hit Lookup(absl::Span<const PageKey> keys);

  // Remembers pages[i] under keys[i], with a reference of the index's own. Only after a step that
  // ended well has filled them. A key that is known keeps its page.
  void Insert(absl::Span<const PageKey> keys, absl::Span<const int32_t> pages);

  // Gives up to `count` pages that only the index holds back to the pool, least recently used
  // first, and returns how many. Of pages used at once the later ones of a sequence go first.
  int64_t Reclaim(int64_t count);

  int64_t size() const { return static_cast<int64_t>(entries_.size()); }

 private:
  struct Entry {
    PageKey key;
    int32_t page = 0;
  };
  using Place = std::list<Entry>::iterator;
  void Touch(absl::Span<const Place> run);

  PagePool& pool_;
  std::list<Entry> entries_;  // least recently used first
  absl::flat_hash_map<PageKey, Place> places_;
};

}  // namespace minicpmv
