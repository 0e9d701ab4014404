#include "tools/minicpmv/bench_progress.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/clock.h"
#include "tools/minicpmv/output.h"

namespace minicpmv {
namespace {

constexpr std::chrono::seconds kEvery(5);

}  // namespace

BenchProgress::BenchProgress(int measurements)
    : measurements_(measurements), start_(Clock::Monotonic().Now()), thread_([this] { Run(); }) {}

BenchProgress::~BenchProgress() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void BenchProgress::Begin(std::string name, int64_t parts, std::string unit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++measurement_;
  name_ = std::move(name);
  unit_ = std::move(unit);
  parts_ = parts;
  done_ = 0;
  if (is_slow_) WriteNotice(Line());
}

void BenchProgress::AddDone(int64_t parts) {
  const std::lock_guard<std::mutex> lock(mutex_);
  done_ += parts;
}

void BenchProgress::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, kEvery, [this] { return is_ending_; })) {
    is_slow_ = true;
    WriteNotice(Line());
  }
}

std::string BenchProgress::Line() const {
  return absl::StrCat(
      "bench ", measurement_, "/", measurements_, ": ", name_, ", ", done_, "/", parts_, " ", unit_,
      absl::StrFormat(" after %.0f s\n", absl::ToDoubleSeconds(Clock::Monotonic().Now() - start_)));
}

}  // namespace minicpmv
