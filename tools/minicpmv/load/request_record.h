#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tools/minicpmv/load/load_plan.h"

namespace minicpmv {

// Tokens that came together.
struct TokenEvent {
  absl::Duration at;
  int tokens = 0;
};

// What became of one request. Times count from the start of the load.
struct RequestRecord {
  LoadClass load_class = LoadClass::kText;
  absl::Duration due;   // when it was to be sent: every latency counts from here
  absl::Duration sent;  // later, where all streams were taken
  absl::Duration end;
  std::vector<TokenEvent> events;
  absl::StatusCode code = absl::StatusCode::kOk;
  int resumptions = 0;           // how often it broke and went on
  bool has_retry_delay = false;  // an error that says when to come again

  bool completed() const { return code == absl::StatusCode::kOk; }
  // Turned away for want of room before it had begun.
  bool refused() const { return code == absl::StatusCode::kResourceExhausted && events.empty(); }
  bool failed() const { return !completed() && !refused(); }
};

}  // namespace minicpmv
