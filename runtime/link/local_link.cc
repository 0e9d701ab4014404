#include "runtime/link/local_link.h"

#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"

namespace minicpmv {

LocalLink::LocalLink(Inbox& inbox, LinkObserver& observer)
    : inbox_(inbox), observer_(observer), thread_([this] { Run(); }) {}

LocalLink::~LocalLink() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void LocalLink::Send(Parcel parcel, Ticket ticket) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back({std::move(parcel), std::move(ticket)});
  }
  changed_.notify_one();
}

void LocalLink::Drop(const LandingName& landing) {
  std::vector<WaitingParcel> dropped;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    dropped = TakeFor(landing, waiting_);
  }
  for (WaitingParcel& one : dropped) one.ticket(absl::CancelledError("the parcel was taken back"));
}

void LocalLink::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return is_ending_ || !waiting_.empty(); });
    // A ticket may send while the link ends: that one, too, is told.
    if (waiting_.empty()) return;
    WaitingParcel next = std::move(waiting_.front());
    waiting_.pop_front();
    const bool is_ending = is_ending_;
    lock.unlock();
    if (is_ending) {
      observer_.OnFailed(LinkFailure::kPeerGone);
      next.ticket(absl::UnavailableError("the link was closed"));
    } else {
      Carry(std::move(next));
    }
    next = {};
    lock.lock();
  }
}

void LocalLink::Carry(WaitingParcel waiting) {
  const ParcelLabel& label = waiting.parcel.label;
  const absl::Time began = Clock::Monotonic().Now();
  absl::Status status = CheckLabel(label);
  if (status.ok()) {
    ByteReader from(std::move(waiting.parcel.content));
    CHECK_EQ(from.left(), label.bytes);
    absl::StatusOr<std::vector<TensorView>> places = inbox_.Place(label);
    status = places.status();
    if (status.ok()) {
      ByteWriter to(*std::move(places));
      CHECK_EQ(to.left(), label.bytes);
      while (from.left() > 0) {
        absl::Span<const uint8_t> bytes = from.Next(from.left());
        while (!bytes.empty()) {
          const absl::Span<uint8_t> place = to.Next(bytes.size());
          std::memcpy(place.data(), bytes.data(), place.size());
          bytes.remove_prefix(place.size());
        }
      }
      inbox_.Landed(label, absl::OkStatus());
    }
  }
  if (status.ok()) {
    observer_.OnLanded(kind(), label, Clock::Monotonic().Now() - began);
  } else {
    observer_.OnFailed(FailureOf(status));
  }
  waiting.ticket(status);
}

}  // namespace minicpmv
