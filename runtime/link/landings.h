#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "runtime/link/link.h"

namespace minicpmv {

// Who keeps places for the parcels of one slot. As Inbox, for labels of that slot only.
class Landing {
 public:
  virtual ~Landing() = default;
  virtual absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) = 0;
  virtual void Landed(const ParcelLabel& label, const absl::Status& status) = 0;
};

// All landings of one process, by slot. Thread-safe.
class Landings final : public Inbox {
 public:
  explicit Landings(const Incarnation& incarnation) : incarnation_(incarnation) {}
  // Every slot has been closed.
  ~Landings() override;

  const Incarnation& incarnation() const { return incarnation_; }

  // A new slot, never 0 and never seen before. The landing is called from now on, and lives until
  // `closed` of its Close has been called.
  LandingName Open(Landing& landing);

  // No parcel for this slot is placed any more. `closed` is called once, at once or by the thread
  // that ends the last placing, when no place of the slot is in use: what lies there may be given
  // back. A slot is closed once.
  void Close(uint64_t slot, absl::AnyInvocable<void()> closed);

  // Slots that are open, or closed and still being placed into.
  int64_t open() const;

  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override;
  void Landed(const ParcelLabel& label, const absl::Status& status) override;

 private:
  struct Slot {
    Landing* landing = nullptr;
    int64_t placing = 0;  // parcels between Place and Landed, calls to the landing included
    absl::AnyInvocable<void()> closed;  // set by Close
  };
  void Leave(uint64_t slot);

  const Incarnation incarnation_;
  mutable std::mutex mutex_;
  uint64_t next_slot_ = 1;                     // guarded by mutex_
  absl::flat_hash_map<uint64_t, Slot> slots_;  // guarded by mutex_
};

}  // namespace minicpmv
