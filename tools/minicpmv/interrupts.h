#pragma once

#include <csignal>
#include <functional>
#include <mutex>
#include <thread>

namespace minicpmv {

// Turns Ctrl-C into a call. Made before any other thread of the process: they all inherit that
// SIGINT is blocked, and one thread of ours waits for it.
class Interrupts {
 public:
  Interrupts();
  // Ctrl-C ends the process again.
  ~Interrupts();

  // What is called, on our thread, at each Ctrl-C from now on. Nothing is called any more once this
  // has returned with another, or with none.
  void Set(std::function<void()> call);

 private:
  void Watch();

  sigset_t signals_;
  std::mutex mutex_;
  std::function<void()> call_;  // guarded by mutex_
  bool stop_ = false;           // guarded by mutex_
  std::thread thread_;
};

}  // namespace minicpmv
