#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "absl/time/time.h"

namespace minicpmv {

// Tells on standard error how far a row of measurements is, but only where it takes long: nothing
// before the first five seconds are over, then a line when a measurement begins and every five
// seconds. Thread-safe, but for Begin.
class BenchProgress {
 public:
  explicit BenchProgress(int measurements);
  ~BenchProgress();

  // The next measurement: what it is, of how many parts, and what one part is called.
  void Begin(std::string name, int64_t parts, std::string unit);
  // More parts of it are done.
  void AddDone(int64_t parts);

 private:
  void Run();
  std::string Line() const;  // mutex_ is held

  const int measurements_;
  const absl::Time start_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_ending_ = false, is_slow_ = false;
  int measurement_ = 0;
  std::string name_, unit_;
  int64_t parts_ = 0, done_ = 0;
  std::thread thread_;
};

}  // namespace minicpmv
