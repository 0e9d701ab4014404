#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "services/router/loop.h"

namespace minicpmv::router {

// A loop on a thread of its own, by the machine's monotonic clock. Nobody may be inside a call when
// it is destroyed, and its alarms have to be gone.
class ThreadLoop final : public Loop {
 public:
  ThreadLoop();
  // Ends the thread; calls that were posted before still happen.
  ~ThreadLoop() override;

  absl::Time Now() const override { return Clock::Monotonic().Now(); }
  void Post(absl::AnyInvocable<void()> call) override;
  std::unique_ptr<Alarm> At(absl::Time time, absl::AnyInvocable<void()> call) override;

  // Posts the call and waits until it has happened. Not from the loop's thread.
  void Run(absl::AnyInvocable<void()> call);

 private:
  using Key = std::pair<absl::Time, uint64_t>;
  class OneAlarm;

  void RunAll();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<absl::AnyInvocable<void()>> posted_;  // guarded by mutex_
  bool is_ending_ = false;                          // guarded by mutex_

  // The thread's own.
  uint64_t last_alarm_ = 0;
  std::map<Key, absl::AnyInvocable<void()>> alarms_;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace minicpmv::router
