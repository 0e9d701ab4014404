#pragma once

#include <algorithm>

#include "absl/time/time.h"
#include "minicpmv/common/v1/bill.pb.h"
#include "services/common/durations.h"

namespace minicpmv {

// One more line: work from `start` to `end` since the worker was handed the call, `busy` of that
// time: stages of one pipeline may have been busy at once, which counts once.
inline void AddLine(common::v1::Bill& bill, common::v1::Work work, absl::Duration start,
                    absl::Duration end, absl::Duration busy) {
  common::v1::BillLine& line = *bill.add_lines();
  line.set_work(work);
  *line.mutable_start() = ToProto(start);
  *line.mutable_end() = ToProto(end);
  *line.mutable_busy() = ToProto(std::min(busy, end - start));
}

}  // namespace minicpmv
