#include "services/gateway/allowance.h"

namespace minicpmv::gateway {

bool Allowance::Share::Grow(int64_t bytes) {
  int64_t held = owner_->held_.load();
  do {
    if (bytes > owner_->bytes_ - held) return false;
  } while (!owner_->held_.compare_exchange_weak(held, held + bytes));
  owner_->gauge_.Increment(static_cast<double>(bytes));
  bytes_ += bytes;
  return true;
}

void Allowance::Share::GiveBack() {
  if (bytes_ == 0) return;
  owner_->held_ -= bytes_;
  owner_->gauge_.Decrement(static_cast<double>(std::exchange(bytes_, 0)));
}

}  // namespace minicpmv::gateway
