#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "runtime/device/cpu_device.h"

namespace minicpmv {

// Room for intermediate values that grows to the most ever asked for and stays.
class Arena {
 public:
  explicit Arena(CpuDevice& device) : device_(device) {}
  // `count` floats, aligned to 64 bytes, with any values; valid until the next call.
  float* Floats(int64_t count);

 private:
  CpuDevice& device_;
  std::unique_ptr<Buffer> buffer_;
};

// The threads of a device as the verbs of one stream use them. Used on the stream's thread only.
class Workers {
 public:
  explicit Workers(CpuDevice& device);

  int threads() const { return device_.pool().threads(); }
  // What all tasks of a verb read.
  Arena& shared() { return shared_; }
  // Calls work(task, arena) for each task in [0, tasks), on all threads; the arena is the task's
  // alone until it returns.
  void Run(int64_t tasks, absl::FunctionRef<void(int64_t, Arena&)> work);
  // The same, but on this thread alone where it would end sooner than another one wakes. `cost`:
  // about how many steps of a vector all tasks take together.
  void RunIfWorth(int64_t tasks, int64_t cost, absl::FunctionRef<void(int64_t, Arena&)> work);
  // Splits [0, size) into parts that are multiples of `grain` (the last one may be shorter), if
  // worth it.
  void Split(int64_t size, int64_t grain, int64_t cost,
             absl::FunctionRef<void(int64_t first, int64_t last)> work);

 private:
  CpuDevice& device_;
  Arena shared_;
  std::vector<Arena> arenas_;  // one a thread
};

}  // namespace minicpmv
