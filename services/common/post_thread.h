#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"

namespace minicpmv {

// One thread that calls what others post, in order, and what is due. What it owns needs no lock.
class PostThread {
 public:
  PostThread();
  // What was posted is called before, also what that posts; what is not due yet never is.
  ~PostThread();

  // Thread-safe, both; return at once.
  void Post(absl::AnyInvocable<void()> call);
  void After(absl::Duration delay, absl::AnyInvocable<void()> call);

 private:
  using Time = std::chrono::steady_clock::time_point;
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<absl::AnyInvocable<void()>> posted_;          // guarded by mutex_
  std::multimap<Time, absl::AnyInvocable<void()>> later_;  // guarded by mutex_
  bool is_ending_ = false;                                 // guarded by mutex_
  std::thread thread_;
};

}  // namespace minicpmv
