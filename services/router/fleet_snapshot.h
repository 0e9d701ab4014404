#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "minicpmv/common/v1/worker.pb.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// What a call asks of a worker.
struct Work {
  int64_t units = 0;  // slices for vision, prompt tokens for prefill, sequences for decode
  int64_t pages = 0;  // that it will hold
};

// One worker as placement sees it: its last report, and what was opened and what has ended since.
struct WorkerView {
  struct RoleView {
    int64_t calls = 0;        // running and waiting
    int64_t own_calls = 0;    // of these, what this router has open
    int64_t outstanding = 0;  // units, see Work
    double rate = 0;          // units a second; 0: nobody has measured it yet
    bool is_full = false;     // has refused work since its last report
  };
  WorkerName name;
  std::string numerics_class;
  std::map<common::v1::Role, RoleView> roles;
  // Free, or given up when needed; less what was promised since. May be below 0.
  int64_t pages = 0;
  int64_t all_pages = 0;  // with nothing in them; 0: it did not say
  int64_t page_tokens = 16;
  int64_t max_sequence_tokens = 0;           // 0: as many as the model's context has
  std::map<std::string, double> link_rates;  // bytes a second, by peer id

  bool Plays(common::v1::Role role) const { return roles.contains(role); }
};

// Those that can take work, by rising id.
struct FleetSnapshot {
  std::vector<WorkerView> workers;
};

}  // namespace minicpmv::router
