#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "minicpmv/common/v1/prompt.pb.h"
#include "runtime/engine/handover.h"

namespace minicpmv {

// A landing for pages whose prompt this very worker can compute in place: it is adopted, without a
// copy or a parcel. Thread-safe.
class OwnLanding {
 public:
  virtual ~OwnLanding() = default;

  // Takes its places back and has the engine compute `prompt` in the landing's own pages, as
  // Engine::ComputeLanding says of `observer`. Rows are provided to the sequence that is returned.
  // INVALID_ARGUMENT: not the prompt that the landing was opened for. ABORTED: its pages have
  // landed, or its call has ended. An error leaves the observer uncalled.
  virtual absl::StatusOr<SequenceId> Compute(const common::v1::Prompt& prompt,
                                             PrefillObserver& observer) = 0;

  // Whoever began to compute it will not provide what is missing: its call ends.
  virtual void GiveUp() = 0;
};

// Those of one worker, by slot. Thread-safe.
class OwnLandings {
 public:
  void Add(uint64_t slot, std::shared_ptr<OwnLanding> landing) {
    const std::lock_guard<std::mutex> lock(mutex_);
    landings_[slot] = std::move(landing);
  }
  void Remove(uint64_t slot) {
    std::shared_ptr<OwnLanding> removed;  // may be the last one: ends outside the lock
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = landings_.find(slot);
    if (found == landings_.end()) return;
    removed = std::move(found->second);
    landings_.erase(found);
  }
  // Null: there is none (any more).
  std::shared_ptr<OwnLanding> Find(uint64_t slot) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = landings_.find(slot);
    return found == landings_.end() ? nullptr : found->second;
  }

 private:
  mutable std::mutex mutex_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<OwnLanding>> landings_;  // guarded by mutex_
};

}  // namespace minicpmv
