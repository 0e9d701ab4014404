#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "minicpmv/common/v1/bill.pb.h"
#include "services/common/bills.h"

namespace minicpmv::vision {

// One line of a bill as it comes about: stretches of one kind of work, from the first's beginning
// to the last's end. One thread at a time.
class WorkLine {
 public:
  // A stretch that is over; stretches that overlap, as slices of one batch do, count once.
  void Add(absl::Time start, absl::Time end) {
    start_ = std::min(start_, start);
    if (end > end_) {
      busy_ += end - std::max(start, end_);
      end_ = end;
    }
  }
  // Work that goes on until as many Ends were told.
  void Begin(absl::Time now) {
    if (running_++ == 0) begun_ = now;
  }
  void End(absl::Time now) {
    if (--running_ == 0) Add(begun_, now);
  }

  // InfiniteFuture: nothing has been done.
  absl::Time start() const { return start_; }

  // Counted from `handed`, when the worker was handed the call. Nothing where nothing was done.
  void AddTo(common::v1::Bill& bill, common::v1::Work work, absl::Time handed) const {
    if (start_ == absl::InfiniteFuture()) return;
    AddLine(bill, work, start_ - handed, end_ - handed, busy_);
  }

 private:
  absl::Time start_ = absl::InfiniteFuture(), end_ = absl::InfinitePast();
  absl::Duration busy_;
  int64_t running_ = 0;
  absl::Time begun_;
};

}  // namespace minicpmv::vision
