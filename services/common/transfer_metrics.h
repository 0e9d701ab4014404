#pragma once

#include <array>

#include "runtime/link/link_observer.h"
#include "services/common/metrics.h"

namespace minicpmv {

// What links tell, as metrics: minicpmv_transfer_bytes_total, minicpmv_transfer_seconds,
// minicpmv_transfer_failures_total, minicpmv_link_rebuilds_total and minicpmv_strips. A strip
// counts at both ends of its link. Thread-safe.
class TransferMetrics final : public LinkObserver {
 public:
  // Lives no longer than the metrics.
  explicit TransferMetrics(Metrics& metrics);

  void OnLanded(absl::string_view link, const ParcelLabel& label, absl::Duration taken) override;
  void OnFailed(LinkFailure reason) override;
  void OnRebuilt() override;
  void OnStrips(int64_t held, int64_t free) override;

 private:
  struct Series {
    prometheus::Counter* bytes = nullptr;
    prometheus::Histogram* seconds = nullptr;
  };
  std::array<std::array<Series, 4>, 2> landed_;   // by link, local and grpc, and by kind
  std::array<prometheus::Counter*, 6> failures_;  // by reason
  prometheus::Counter& rebuilds_;
  prometheus::Gauge& held_;
  prometheus::Gauge& free_;
};

}  // namespace minicpmv
