#include "services/prefill/page_sender.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/tracing.h"
#include "runtime/kernels/step_batch.h"
#include "runtime/kv/page_table.h"

namespace minicpmv::prefill {
namespace {

// Small enough that pages of several layers and sequences share a link fairly, and large enough
// that labels do not count.
constexpr size_t kParcelBytes = size_t{1} << 20;

}  // namespace

// What the parcels of one run have in common.
struct PageSender::Run {
  absl::AnyInvocable<void()> sent;
  std::atomic<int64_t> parcels;  // that have not ended
};

PageSender::PageSender(Link& link, const Clock& clock, Options options)
    : link_(link), clock_(clock), options_(std::move(options)) {
  landed_.resize(static_cast<size_t>(options_.layers), options_.from);
  sums_.landed_tokens = options_.from;
  sums_.awaited_pages = options_.layers * (PagesFor(options_.to) - options_.from / kPageSize);
}

void PageSender::Send(PageRun run, absl::AnyInvocable<void()> sent) {
  CHECK(!run.pages.empty());
  const int64_t pages = static_cast<int64_t>(run.pages.size());
  const int64_t a_parcel =
      std::max<int64_t>(1, static_cast<int64_t>(kParcelBytes / run.pages[0].bytes()));
  const int64_t parcels = (pages + a_parcel - 1) / a_parcel;
  absl::Time begun;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (is_dropped_) {
      lock.unlock();
      sent();
      return;
    }
    begun = clock_.Now();
    if (sums_.first_start == absl::Time()) sums_.first_start = begun;
    if (travelling_ == 0) busy_since_ = begun;
    travelling_ += parcels;
  }
  // The tickets share it, on whatever threads they end.
  const auto shared = std::make_shared<Run>();
  shared->sent = std::move(sent);
  shared->parcels = parcels;
  for (int64_t first = 0; first < pages; first += a_parcel) {
    const int64_t count = std::min(a_parcel, pages - first);
    Parcel parcel;
    parcel.content.assign(run.pages.begin() + first, run.pages.begin() + first + count);
    parcel.label.landing = options_.landing;
    parcel.label.kind = ParcelKind::kPages;
    parcel.label.index = run.layer;
    parcel.label.first = run.first + first * kPageSize;
    parcel.label.count = std::min(count * kPageSize, run.count - first * kPageSize);
    parcel.label.dtype = options_.dtype;
    for (const ConstTensorView& page : parcel.content) parcel.label.bytes += page.bytes();
    const ParcelLabel label = parcel.label;
    link_.Send(std::move(parcel), [this, label, begun, shared](const absl::Status& status) {
      Ended(label, begun, status, *shared);
    });
  }
}

void PageSender::Ended(const ParcelLabel& label, absl::Time begun, const absl::Status& status,
                       Run& run) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    sums_.last_end = clock_.Now();
    TracePart(TraceRow::kTransfer, status.ok() ? "pages" : "lost pages", begun, sums_.last_end,
              options_.work,
              {{"layer", static_cast<int64_t>(label.index)},
               {"first", static_cast<int64_t>(label.first)},
               {"positions", static_cast<int64_t>(label.count)},
               {"bytes", static_cast<int64_t>(label.bytes)}});
    if (--travelling_ == 0) sums_.busy += sums_.last_end - busy_since_;
    if (status.ok()) {
      sums_.bytes += label.bytes;
      sums_.landed_pages += PagesFor(label.count);
      landed_[label.index] += label.count;
      sums_.landed_tokens = *std::min_element(landed_.begin(), landed_.end());
    }
  }
  options_.told(status);
  // With the last `sent` this may be gone.
  if (--run.parcels == 0) run.sent();
}

void PageSender::Drop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_dropped_ = true;
  }
  link_.Drop(options_.landing);
}

PageSender::Sums PageSender::sums() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return sums_;
}

}  // namespace minicpmv::prefill
