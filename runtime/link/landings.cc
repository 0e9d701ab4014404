#include "runtime/link/landings.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace minicpmv {

Landings::~Landings() { CHECK_EQ(open(), 0); }

LandingName Landings::Open(Landing& landing) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t slot = next_slot_++;
  slots_[slot].landing = &landing;
  return {incarnation_, slot};
}

void Landings::Close(uint64_t slot, absl::AnyInvocable<void()> closed) {
  CHECK(closed);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = slots_.find(slot);
    CHECK(found != slots_.end() && !found->second.closed) << "slot " << slot;
    if (found->second.placing > 0) {
      found->second.closed = std::move(closed);
      return;
    }
    slots_.erase(found);
  }
  closed();
}

int64_t Landings::open() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int64_t>(slots_.size());
}

absl::StatusOr<std::vector<TensorView>> Landings::Place(const ParcelLabel& label) {
  if (label.landing.incarnation != incarnation_) {
    return absl::AbortedError("the parcel is for a process that is no more");
  }
  minicpmv::Landing* landing = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = slots_.find(label.landing.slot);
    if (found == slots_.end() || found->second.closed) {
      return absl::AbortedError(
          absl::StrCat("there is no landing ", label.landing.slot, " (any more)"));
    }
    ++found->second.placing;
    landing = found->second.landing;
  }
  absl::StatusOr<std::vector<TensorView>> places = landing->Place(label);
  if (!places.ok()) {
    Leave(label.landing.slot);
    return places;
  }
  uint64_t room = 0;
  for (const TensorView& place : *places) room += place.bytes();
  if (room != label.bytes) {
    absl::Status status = absl::InvalidArgumentError(
        absl::StrCat("the parcel has ", label.bytes, " bytes, its places in landing ",
                     label.landing.slot, " have ", room));
    Landed(label, status);
    return status;
  }
  return places;
}

void Landings::Landed(const ParcelLabel& label, const absl::Status& status) {
  minicpmv::Landing* landing = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = slots_.find(label.landing.slot);
    CHECK(found != slots_.end() && found->second.placing > 0) << "slot " << label.landing.slot;
    landing = found->second.landing;
  }
  landing->Landed(label, status);
  Leave(label.landing.slot);
}

void Landings::Leave(uint64_t slot) {
  absl::AnyInvocable<void()> closed;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = slots_.find(slot);
    if (--found->second.placing > 0 || !found->second.closed) return;
    closed = std::move(found->second.closed);
    slots_.erase(found);
  }
  closed();
}

}  // namespace minicpmv
