#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "services/router/fleet_snapshot.h"

namespace minicpmv::router {

// Policies without a state: a job and a snapshot of the fleet in, workers out. The same question
// has the same answer; of equals the smaller id is taken.

// What a request needs of the fleet.
struct Job {
  int64_t tokens = 0;           // prompt and what was generated so far
  int64_t new_tokens = 0;       // still to come, at most
  int64_t bytes_per_token = 0;  // of pages, on their way from prefill to decode
  // Beyond what the tokens need: workers that had so little more have refused it.
  int64_t spare_pages = 0;
  bool has_media = false;
  uint64_t beginning = 0;      // see RequestPlan
  std::string numerics_class;  // in which the reply began; "": it did not yet
  // Incarnations that have failed this request. They are asked again only where nobody else is
  // left.
  std::set<std::string> failed;
};

struct Placement {
  WorkerName decode, prefill;
  std::string numerics_class;  // of decode
  Work decode_work, prefill_work;
};

// UNAVAILABLE: a role is not played by any ready worker. RESOURCE_EXHAUSTED: there is no room now.
// OUT_OF_RANGE: no worker could hold so many tokens if it had nothing else to do.
absl::StatusOr<Placement> Place(const Job& job, const FleetSnapshot& fleet);

// The vision worker that keeps a medium: always the same one while the fleet is the same, and a
// home that goes moves its own media only. UNAVAILABLE: there is none.
absl::StatusOr<WorkerName> HomeOf(absl::string_view cache_scope, absl::string_view digest,
                                  const std::set<std::string>& failed, const FleetSnapshot& fleet);

// Slices of one medium that are to be encoded, by their spans' numbers in the prompt.
struct MediumSlices {
  WorkerName home;
  std::vector<uint32_t> spans;
};
// What one worker encodes of a medium.
struct SliceShare {
  WorkerName worker;
  std::vector<uint32_t> spans;
};
// Shares the slices out over all vision workers so that the last one is done soonest. For each
// medium its home comes first (and has a slice at least), then the helpers.
std::vector<std::vector<SliceShare>> ShareSlices(absl::Span<const MediumSlices> media,
                                                 const std::set<std::string>& failed,
                                                 const FleetSnapshot& fleet);

}  // namespace minicpmv::router
