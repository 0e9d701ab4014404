#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"

namespace minicpmv {

// Threads that sleep until there is work for all of them at once.
class ThreadPool {
 public:
  // `threads` >= 1, the caller of Run included.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;
  // Calls work(task) for every task in [0, tasks), each once, on whichever thread is free, and returns when all have
  // ended. Which thread takes which task is not promised, so no result may depend on it. Callers on several threads take
  // turns. `work` must not call Run.
  void Run(int64_t tasks, absl::FunctionRef<void(int64_t)> work);

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace minicpmv
