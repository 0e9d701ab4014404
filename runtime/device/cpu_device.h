#pragma once

#include <memory>
#include <string>

#include "runtime/device/device.h"
#include "runtime/device/thread_pool.h"
#include "runtime/device/turns.h"

namespace minicpmv {

// Host memory and a pool of threads. Each of its streams has a thread of its own that sleeps while
// nothing is queued; the streams of one device take turns with the pool: see Turns.
class CpuDevice final : public Device {
 public:
  // `threads` >= 1 computes; the thread of the stream that is working counts as one of them.
  CpuDevice(std::string name, int threads);
  ~CpuDevice() override;

  const std::string& name() const override { return name_; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override;
  std::unique_ptr<Stream> NewStream() override;
  ThreadPool& pool() { return pool_; }

 private:
  std::string name_;
  ThreadPool pool_;
  Turns turns_;
};

}  // namespace minicpmv
