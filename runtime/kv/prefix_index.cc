#include "runtime/kv/prefix_index.h"

#include <openssl/sha.h>

#include <algorithm>

#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "runtime/kernels/step_batch.h"

namespace minicpmv {
namespace {

// Bytes that no other list of fields can make: numbers are eight bytes, texts say how long they
// are.
class Fields {
 public:
  void Number(int64_t value) {
    for (int i = 0; i < 8; ++i) bytes_.push_back(static_cast<char>(uint64_t(value) >> (8 * i)));
  }
  void Text(absl::string_view text) {
    Number(static_cast<int64_t>(text.size()));
    bytes_.append(text.data(), text.size());
  }
  PageKey Hash() const {
    PageKey key;
    SHA256(reinterpret_cast<const uint8_t*>(bytes_.data()), bytes_.size(), key.data());
    return key;
  }

 private:
  std::string bytes_;
};

absl::string_view AsText(const PageKey& key) {
  return {reinterpret_cast<const char*>(key.data()), key.size()};
}

}  // namespace

PageKeyChain::PageKeyChain(const PrefixContext& context) {
  Fields start;
  start.Text(context.model_fingerprint);
  start.Text(context.cache_layout);
  start.Text(context.numerics_class);
  start.Text(context.cache_scope);
  start_ = start.Hash();
}

void PageKeyChain::Extend(absl::Span<const int32_t> tokens, absl::Span<const PrefixSpan> spans) {
  const int64_t pages = static_cast<int64_t>(tokens.size()) / kPageSize;
  for (int64_t page = static_cast<int64_t>(keys_.size()); page < pages; ++page) {
    const int64_t first = page * kPageSize;
    const int64_t end = first + kPageSize;
    Fields fields;
    fields.Text(AsText(keys_.empty() ? start_ : keys_.back()));
    for (int64_t i = first; i < end; ++i) fields.Number(tokens[i]);
    while (span_ < spans.size() && spans[span_].first + spans[span_].count <= first) ++span_;
    for (size_t s = span_; s < spans.size() && spans[s].first < end; ++s) {
      is_broken_ |= spans[s].content.empty();
      // Which rows of the span lie on this page follows from where it begins.
      fields.Number(spans[s].first - first);
      fields.Number(std::min(end, spans[s].first + spans[s].count) - first);
      fields.Text(spans[s].content);
    }
    if (is_broken_) return;
    keys_.push_back(fields.Hash());
  }
}

std::vector<PageKey> PageKeysOf(const PrefixContext& context, absl::Span<const int32_t> tokens,
                                absl::Span<const PrefixSpan> spans) {
  PageKeyChain chain(context);
  chain.Extend(tokens, spans);
  return {chain.keys().begin(), chain.keys().end()};
}

PrefixIndex::~PrefixIndex() {
  // The first pages of a sequence were used last, and the next taker gets them first.
  for (const Entry& entry : entries_) pool_.Drop(entry.page);
}

void PrefixIndex::Touch(absl::Span<const Place> run) {
  // Backwards: the first page is needed by all that follow, so it goes last.
  for (auto place = run.rbegin(); place != run.rend(); ++place) {
    entries_.splice(entries_.end(), entries_, *place);
  }
}

PrefixIndex::Hit PrefixIndex::Lookup(absl::Span<const PageKey> keys) {
  std::vector<Place> run;
  Hit hit;
  for (const PageKey& key : keys) {
    const auto found = places_.find(key);
    if (found == places_.end()) break;
    run.push_back(found->second);
    hit.pages.push_back(found->second->page);
    pool_.Share(found->second->page);
  }
  Touch(run);
  hit.tokens = static_cast<int64_t>(hit.pages.size()) * kPageSize;
  return hit;
}

void PrefixIndex::Insert(absl::Span<const PageKey> keys, absl::Span<const int32_t> pages) {
  CHECK_LE(keys.size(), pages.size());
  std::vector<Place> run;
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto [found, is_new] = places_.try_emplace(keys[i]);
    if (is_new) {
      pool_.Keep(pages[i]);
      found->second = entries_.insert(entries_.end(), {keys[i], pages[i]});
    }
    run.push_back(found->second);
  }
  Touch(run);
}

int64_t PrefixIndex::Reclaim(int64_t count) {
  int64_t reclaimed = 0;
  for (auto entry = entries_.begin(); entry != entries_.end() && reclaimed < count;) {
    if (pool_.references(entry->page) > 1) {
      ++entry;
      continue;
    }
    places_.erase(entry->key);
    pool_.Drop(entry->page);
    entry = entries_.erase(entry);
    ++reclaimed;
  }
  return reclaimed;
}

}  // namespace minicpmv
