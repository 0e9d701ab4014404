#pragma once

#include <map>

#include "services/common/metrics.h"

namespace minicpmv::gateway {

// What a gateway counts. Thread-safe.
class GatewayMetrics {
 public:
  explicit GatewayMetrics(Metrics& metrics);

  // A status that HTTP has, or 499: the client has gone.
  void OnRequestEnd(int status);
  void SetConnections(size_t count) { connections_.Set(static_cast<double>(count)); }
  void SetInFlight(int count) { in_flight_.Set(count); }
  prometheus::Gauge& body_bytes() { return body_bytes_; }
  prometheus::Gauge& disk_bytes() { return disk_bytes_; }

 private:
  prometheus::Gauge &connections_, &in_flight_, &body_bytes_, &disk_bytes_;
  std::map<int, prometheus::Counter*> requests_;  // 0: any other
};

}  // namespace minicpmv::gateway
