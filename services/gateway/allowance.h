#pragma once

#include <prometheus/gauge.h>

#include <atomic>
#include <cstdint>
#include <utility>

namespace minicpmv::gateway {

// So many bytes for all together, and who holds which part of them. Thread-safe, but a share is
// for one thread at a time.
class Allowance {
 public:
  // `gauge` shows what is held; it outlives this.
  Allowance(int64_t bytes, prometheus::Gauge& gauge) : bytes_(bytes), gauge_(gauge) {}
  Allowance(const Allowance&) = delete;
  Allowance& operator=(const Allowance&) = delete;

  int64_t bytes() const { return bytes_; }

  // A part, given back at its end; the allowance outlives it.
  class Share {
   public:
    explicit Share(Allowance& owner) : owner_(&owner) {}
    Share(Share&& other) noexcept : owner_(other.owner_), bytes_(std::exchange(other.bytes_, 0)) {}
    Share& operator=(Share&&) = delete;
    ~Share() { GiveBack(); }

    // False: there are not so many left; the share is what it was.
    bool Grow(int64_t bytes);
    void GiveBack();
    int64_t bytes() const { return bytes_; }

   private:
    Allowance* owner_;
    int64_t bytes_ = 0;
  };

 private:
  const int64_t bytes_;
  prometheus::Gauge& gauge_;
  std::atomic<int64_t> held_ = 0;
};

}  // namespace minicpmv::gateway
