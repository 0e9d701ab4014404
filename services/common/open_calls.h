#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

namespace minicpmv {

// Counts what still refers to a service, so that the service can wait for it. Thread-safe.
class OpenCalls {
 public:
  // One call, as long as this is held.
  class Entry {
   public:
    explicit Entry(OpenCalls& calls) : calls_(calls) {
      const std::lock_guard<std::mutex> lock(calls_.mutex_);
      ++calls_.open_;
    }
    ~Entry() {
      // Told under the lock: who waits may destroy the count as soon as it is free.
      const std::lock_guard<std::mutex> lock(calls_.mutex_);
      --calls_.open_;
      calls_.ended_.notify_all();
    }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    OpenCalls& calls_;
  };

  ~OpenCalls() { WaitForAll(); }

  void WaitForAll() {
    std::unique_lock<std::mutex> lock(mutex_);
    ended_.wait(lock, [this] { return open_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  int64_t open_ = 0;  // guarded by mutex_
};

}  // namespace minicpmv
