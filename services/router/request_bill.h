#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "minicpmv/chat/v1/reply.pb.h"
#include "minicpmv/common/v1/bill.pb.h"

namespace minicpmv::router {

// Where one request's time went. Durations are the workers' own, by their clocks; where they lie in
// the request's life is known by the router's clock at the moment at which it opened the call.
class RequestBill {
 public:
  explicit RequestBill(absl::Time arrival) : arrival_(arrival) {}

  // What a worker says of a call that was opened at `opened`. Times that cannot be count nothing.
  void Add(absl::Time opened, const common::v1::Bill& bill);
  // Something that the router has seen itself.
  void Add(common::v1::Work work, absl::Time start, absl::Time end);
  // One decode step, by the worker's clock: for calls that end without a bill.
  void AddStep(absl::Time opened, const google::protobuf::Duration& start,
               const google::protobuf::Duration& end);
  // The steps since the last time stand for a bill that did not come, or are left out for one that
  // did.
  void CloseSteps(bool has_bill);
  void AddFailover() { ++failovers_; }
  // A slice was encoded.
  void AddSlice() { ++slices_; }

  chat::v1::Bill At(absl::Time end) const;

 private:
  struct Line {
    common::v1::Work work = common::v1::WORK_UNSPECIFIED;
    absl::Duration start, end;  // since arrival
    absl::Duration busy;
  };

  absl::Time arrival_;
  std::vector<Line> lines_;
  Line steps_;  // busy 0: none
  uint32_t slices_ = 0, cached_slices_ = 0, failovers_ = 0;
  uint64_t sent_bytes_ = 0;
};

}  // namespace minicpmv::router
