#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "services/router/tenants.h"

namespace minicpmv::router {

struct RouterOptions {
  // Requests that wait, at most; and of one tenant.
  size_t queue_limit = 256;
  size_t tenant_limit = 256;
  TenantBook tenants;
  // A request that would wait longer, by the measured rate, is refused at once.
  absl::Duration longest_wait = absl::InfiniteDuration();
  // For so long requests wait while no worker plays a role that they need, then they are refused.
  absl::Duration settle = absl::Seconds(10);
  // See FleetOptions.
  std::optional<absl::Duration> stall_after;
  // How often workers are replaced for one reply before it fails.
  int failovers = 16;
  // Where request ids and seeds come from. Unset: drawn by the machine.
  std::optional<uint64_t> random_seed;
};

}  // namespace minicpmv::router
