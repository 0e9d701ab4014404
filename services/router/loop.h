#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"

namespace minicpmv::router {

// The one thread on which the router decides, as an interface: the same code runs on a thread of
// its own and, in simulations, on a virtual clock. All state of the router belongs to this thread;
// others Post.
class Loop : public Clock {
 public:
  // A call to come. Destroyed before, the call never happens. On the loop's thread.
  class Alarm {
   public:
    virtual ~Alarm() = default;
  };

  // Calls once, later, on the loop's thread, in the order of posting. Thread-safe. A call that is
  // posted after the loop has ended is dropped.
  virtual void Post(absl::AnyInvocable<void()> call) = 0;
  // Calls once at `time` or soon after; of equal times, in order. On the loop's thread.
  [[nodiscard]] virtual std::unique_ptr<Alarm> At(absl::Time time,
                                                  absl::AnyInvocable<void()> call) = 0;
};

}  // namespace minicpmv::router
