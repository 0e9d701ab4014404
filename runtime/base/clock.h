#pragma once

#include "absl/time/time.h"

namespace minicpmv {

// Where decisions get their time from; tests hand in one that stands still. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Grows monotonically and starts anywhere: only differences mean something.
  virtual absl::Time Now() const = 0;

  // The machine's monotonic clock. Lives for ever.
  static const Clock& Monotonic();
};

}  // namespace minicpmv
