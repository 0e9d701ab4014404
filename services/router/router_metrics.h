#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "minicpmv/control/v1/fleet_service.pb.h"
#include "services/common/metrics.h"
#include "services/router/router_watch.h"

namespace minicpmv::router {

// The router's metrics and what it has to say in the log. Of the metrics all of them there from the
// start. Thread-safe, for what Metrics is.
class RouterMetrics final : public RouterWatch {
 public:
  explicit RouterMetrics(Metrics& metrics);

  void OnQueueDepth(RequestClass request_class, size_t waiting) override;
  void OnQueueWait(RequestClass request_class, absl::Duration wait) override;
  void OnPlaced(absl::Duration spent) override;
  void OnRejected(absl::string_view reason) override;
  void OnFailover(common::v1::Role role, bool ongoing) override;
  void OnWorkerFailure(absl::string_view worker, const absl::Status& status,
                       absl::string_view request_id) override;
  void OnFirstToken(absl::Duration since_arrival) override;
  void OnLaterTokens(int tokens, absl::Duration since_message_before) override;

  void OnRequest();
  // Once for each OnRequest. `tokens` came within `generating`, the first of them at its beginning.
  void OnReply(const absl::Status& status, bool is_stream, absl::Duration since_arrival, int tokens,
               absl::Duration generating);
  // A request ended because its client had gone, or its deadline had passed.
  void OnCancelled(bool by_deadline);
  void OnFleet(const control::v1::ListWorkersResponse& fleet);

 private:
  struct ByClass {
    prometheus::Gauge* depth = nullptr;
    prometheus::Histogram* wait = nullptr;
  };
  std::map<RequestClass, ByClass> classes_;
  std::map<std::pair<absl::StatusCode, bool>, prometheus::Counter*> requests_;
  std::map<std::string, prometheus::Counter*> rejections_;
  std::map<bool, prometheus::Counter*> cancellations_;
  std::map<std::pair<common::v1::Role, bool>, prometheus::Counter*> failovers_;
  std::map<std::pair<common::v1::Role, control::v1::WorkerState>, prometheus::Gauge*> workers_;
  prometheus::Gauge& in_flight_;
  prometheus::Histogram &first_token_, &inter_token_, &per_token_, &whole_, &placement_;
};

}  // namespace minicpmv::router
