#include "services/decode/page_arrivals.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/kernels/step_batch.h"
#include "runtime/kv/page_table.h"

namespace minicpmv {
namespace {

int64_t PagesALayer(const LandingPages& pages) {
  return PagesFor(pages.tokens()) - pages.held_tokens() / kPageSize;
}

}  // namespace

PageArrivals::PageArrivals(LandingPages pages, DType dtype)
    : pages_(std::move(pages)),
      dtype_(dtype),
      pages_a_layer_(std::max<int64_t>(0, PagesALayer(pages_))),
      states_(static_cast<size_t>(pages_a_layer_ * pages_.layers()), State::kMissing) {}

PageArrivals::Run PageArrivals::RunOf(const ParcelLabel& label) const {
  return {label.index * pages_a_layer_ + (label.first - pages_.held_tokens()) / kPageSize,
          PagesFor(label.count)};
}

absl::StatusOr<std::vector<TensorView>> PageArrivals::Place(const ParcelLabel& label) {
  if (label.kind != ParcelKind::kPages) {
    return absl::InvalidArgumentError("the landing is for pages");
  }
  if (label.dtype != dtype_) {
    return absl::InvalidArgumentError(
        absl::StrCat("the pages are ", NameOf(label.dtype), " where ", NameOf(dtype_), " belongs"));
  }
  absl::StatusOr<std::vector<TensorView>> places =
      pages_.Places(label.index, label.first, label.count);
  if (!places.ok()) return absl::InvalidArgumentError(places.status().message());
  uint64_t bytes = 0;
  for (const TensorView& place : *places) bytes += place.bytes();
  if (label.bytes != bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(label.count, " positions are ", bytes, " bytes, not ", label.bytes));
  }
  const Run run = RunOf(label);
  for (int64_t i = run.first; i < run.first + run.count; ++i) {
    if (states_[i] == State::kMissing) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("of positions ", label.first, " to ", label.first + label.count - 1,
                     " of layer ", label.index, " some have landed or are on their way already"));
  }
  std::fill_n(states_.begin() + run.first, run.count, State::kComing);
  return places;
}

void PageArrivals::Landed(const ParcelLabel& label, bool is_here) {
  const Run run = RunOf(label);
  std::fill_n(states_.begin() + run.first, run.count, is_here ? State::kHere : State::kMissing);
  if (is_here) landed_ += run.count;
}

}  // namespace minicpmv
