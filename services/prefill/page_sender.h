#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "runtime/base/trace_file.h"
#include "runtime/engine/handover.h"
#include "runtime/link/link.h"

namespace minicpmv::prefill {

// Sends a prompt's pages to the landing that awaits them, and counts what is there. Thread-safe.
class PageSender {
 public:
  struct Options {
    LandingName landing;
    DType dtype = DType::kF32;
    int64_t layers = 0;
    // Positions [from, to) of every layer are awaited.
    int64_t from = 0;
    int64_t to = 0;
    TracedWork work;
    // Called when parcels of a run have ended, on any thread, before the run's `sent`: OK, or why
    // one did not land.
    std::function<void(const absl::Status&)> told;
  };

  // Link and clock outlive this, and this every `sent`.
  PageSender(Link& link, const Clock& clock, Options options);

  // Sends a run in parcels that a link takes; `sent` is called once, when all of them have ended.
  void Send(PageRun run, absl::AnyInvocable<void()> sent);

  // What has not begun to travel stays here, and nothing more is sent.
  void Drop();

  struct Sums {
    int64_t landed_tokens = 0;  // positions that have landed in every layer
    int64_t landed_pages = 0;   // over all layers
    int64_t awaited_pages = 0;
    uint64_t bytes = 0;  // that have landed
    // From the first parcel's beginning to the last one's end, and the time within it in which any
    // was on its way. Of no parcels: nothing.
    absl::Time first_start, last_end;
    absl::Duration busy;
  };
  Sums sums() const;

 private:
  struct Run;
  void Ended(const ParcelLabel& label, absl::Time begun, const absl::Status& status, Run& run);

  Link& link_;
  const Clock& clock_;
  const Options options_;
  mutable std::mutex mutex_;
  bool is_dropped_ = false;      // guarded by mutex_, as all below
  std::vector<int64_t> landed_;  // positions of each layer
  int64_t travelling_ = 0;       // parcels
  absl::Time busy_since_;
  Sums sums_;
};

}  // namespace minicpmv::prefill
