#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "services/common/metrics.h"

namespace minicpmv::vision {

// The series of the vision role, with zero from the moment this is made.
class VisionMetrics {
 public:
  // Lives as long as this.
  explicit VisionMetrics(Metrics& metrics);

  // A medium came to be held: "jpeg", "png", "webp".
  void CountMedium(absl::string_view format);
  // A medium was not taken, or could not be decoded, for this reason.
  void CountReject(const absl::Status& status);

  prometheus::Histogram& media_decode_seconds;
  prometheus::Counter& slices;
  prometheus::Histogram& batch_slices;
  prometheus::Histogram& step_seconds;
  prometheus::Counter& rows_queries;
  prometheus::Counter& rows_hits;
  prometheus::Gauge& rows_bytes;

 private:
  Metrics& metrics_;
};

}  // namespace minicpmv::vision
