#include "runtime/kernels/cpu/workers.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "runtime/base/check.h"

namespace minicpmv {
namespace {

// Waking a sleeping thread costs some ten microseconds: below this many vector steps it is not
// worth it.
constexpr int64_t kWorthWaking = int64_t{1} << 16;

}  // namespace

float* Arena::Floats(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  if (buffer_ == nullptr || buffer_->size() < bytes) {
    buffer_ = nullptr;
    absl::StatusOr<std::unique_ptr<Buffer>> buffer = device_.Allocate(bytes);
    CHECK(buffer.ok()) << buffer.status();
    buffer_ = *std::move(buffer);
  }
  return static_cast<float*>(buffer_->data());
}

Workers::Workers(CpuDevice& device) : device_(device), shared_(device) {
  for (int i = 0; i < threads(); ++i) arenas_.emplace_back(device);
}

void Workers::Run(int64_t tasks, absl::FunctionRef<void(int64_t, Arena&)> work) {
  std::atomic<int64_t> next = 0;
  device_.pool().Run(std::min<int64_t>(threads(), tasks), [&](int64_t worker) {
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;)
      work(task, arenas_[worker]);
  });
}

void Workers::RunIfWorth(int64_t tasks, int64_t cost,
                         absl::FunctionRef<void(int64_t, Arena&)> work) {
  if (cost >= kWorthWaking) return Run(tasks, work);
  device_.pool().Run(1, [&](int64_t) {
    for (int64_t task = 0; task < tasks; ++task) work(task, arenas_[0]);
  });
}

void Workers::Split(int64_t size, int64_t grain, int64_t cost,
                    absl::FunctionRef<void(int64_t first, int64_t last)> work) {
  if (size <= 0) return;
  const int64_t grains = (size + grain - 1) / grain;
  const int64_t parts = cost < kWorthWaking ? 1 : std::min<int64_t>(grains, int64_t{4} * threads());
  RunIfWorth(parts, cost, [&](int64_t i, Arena&) {
    work(grains * i / parts * grain, std::min(size, grains * (i + 1) / parts * grain));
  });
}

}  // namespace minicpmv
