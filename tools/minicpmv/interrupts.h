#pragma once

#include <csignal>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace minicpmv {

// Turns Ctrl-C, and other signals that ask a process to end, into a call. Made before any other
// thread of the process: they all inherit that these are blocked, and one thread of ours waits for
// them.
class Interrupts {
 public:
  explicit Interrupts(const std::vector<int>& signals = {SIGINT});
  // They end the process again.
  ~Interrupts();

  // What is called, on our thread, at each of them from now on. Nothing is called any more once
  // this has returned with another, or with none.
  void Set(std::function<void()> call);

 private:
  void Watch();

  const int first_;
  sigset_t signals_;
  std::mutex mutex_;
  std::function<void()> call_;  // guarded by mutex_
  bool stop_ = false;           // guarded by mutex_
  std::thread thread_;
};

}  // namespace minicpmv
