#include "services/gateway/gateway_metrics.h"

#include "absl/strings/str_cat.h"

namespace minicpmv::gateway {

GatewayMetrics::GatewayMetrics(Metrics& metrics)
    : connections_(metrics.Gauge("minicpmv_http_connections", "Clients that are connected")),
      in_flight_(
          metrics.Gauge("minicpmv_http_requests_in_flight", "Requests that have no answer yet")),
      body_bytes_(metrics.Gauge("minicpmv_http_body_bytes", "Bodies of requests in memory")),
      disk_bytes_(metrics.Gauge("minicpmv_http_disk_bytes",
                                "Bodies of requests on the disk, and files that clients keep")) {
  for (const int status :
       {0, 200, 400, 401, 404, 405, 413, 415, 429, 431, 499, 500, 503, 504, 507}) {
    requests_[status] =
        &metrics.Counter("minicpmv_http_requests_total",
                         "Requests that were answered, by HTTP status; 499: given up",
                         {{"code", status == 0 ? "other" : absl::StrCat(status)}});
  }
}

void GatewayMetrics::OnRequestEnd(int status) {
  const auto found = requests_.find(status);
  (found == requests_.end() ? requests_.at(0) : found->second)->Increment();
}

}  // namespace minicpmv::gateway
