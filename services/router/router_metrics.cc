#include "services/router/router_metrics.h"

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/base/quoted.h"
#include "services/common/fleet_names.h"

namespace minicpmv::router {
namespace {

constexpr char kOther[] = "OTHER";

constexpr control::v1::WorkerState kStates[] = {
    control::v1::WORKER_STATE_LOADING, control::v1::WORKER_STATE_READY,
    control::v1::WORKER_STATE_DRAINING, control::v1::WORKER_STATE_LOST};

}  // namespace

RouterMetrics::RouterMetrics(Metrics& metrics)
    : in_flight_(metrics.Gauge("minicpmv_requests_in_flight", "Requests that have not ended yet")),
      first_token_(metrics.Histogram("minicpmv_time_to_first_token_seconds",
                                     "From a request's arrival to its first token",
                                     kFirstTokenBuckets)),
      inter_token_(metrics.Histogram("minicpmv_inter_token_latency_seconds",
                                     "Between two tokens of a reply", kTokenBuckets)),
      per_token_(metrics.Histogram("minicpmv_time_per_output_token_seconds",
                                   "Of each reply, the mean time between its tokens",
                                   kTokenBuckets)),
      whole_(metrics.Histogram("minicpmv_e2e_seconds", "From a request's arrival to its end",
                               kReplyBuckets)),
      placement_(metrics.Histogram("minicpmv_placement_seconds", "Spent on choosing workers",
                                   kStageBuckets)) {
  for (const RequestClass one : {RequestClass::kText, RequestClass::kImage, RequestClass::kVideo}) {
    const Metrics::Labels labels = {{"class", std::string(router::NameOf(one))}};
    classes_[one].depth = &metrics.Gauge("minicpmv_queue_depth", "Requests that wait", labels);
    classes_[one].wait = &metrics.Histogram(
        "minicpmv_queue_wait_seconds", "Waited before workers were opened", kStageBuckets, labels);
  }
  for (int code = 0; code <= 16; ++code) {
    for (const bool is_stream : {false, true}) {
      const auto status = static_cast<absl::StatusCode>(code);
      requests_[{status, is_stream}] = &metrics.Counter(
          "minicpmv_requests_total", "Requests that have ended, by gRPC status",
          {{"code", absl::StatusCodeToString(status)}, {"stream", is_stream ? "true" : "false"}});
    }
  }
  for (const char* const reason :
       {"QUEUE_FULL", "DEADLINE_HOPELESS", "QUOTA_EXCEEDED", "ROLE_MISSING", kOther}) {
    rejections_[reason] = &metrics.Counter("minicpmv_rejections_total",
                                           "Requests that were not taken", {{"reason", reason}});
  }
  for (const bool by_deadline : {false, true}) {
    cancellations_[by_deadline] =
        &metrics.Counter("minicpmv_cancellations_total", "Requests that were given up",
                         {{"by", by_deadline ? "deadline" : "client"}});
  }
  for (const common::v1::Role role : kRoles) {
    for (const bool ongoing : {false, true}) {
      failovers_[{role, ongoing}] = &metrics.Counter(
          "minicpmv_failovers_total", "Workers replaced during a request",
          {{"role", minicpmv::NameOf(role)}, {"kind", ongoing ? "ongoing" : "new"}});
    }
    for (const control::v1::WorkerState state : kStates) {
      workers_[{role, state}] =
          &metrics.Gauge("minicpmv_workers", "Workers, as this router sees them",
                         {{"role", minicpmv::NameOf(role)}, {"state", minicpmv::NameOf(state)}});
    }
  }
}

void RouterMetrics::OnQueueDepth(RequestClass request_class, size_t waiting) {
  classes_.at(request_class).depth->Set(static_cast<double>(waiting));
}
void RouterMetrics::OnQueueWait(RequestClass request_class, absl::Duration wait) {
  classes_.at(request_class).wait->Observe(absl::ToDoubleSeconds(wait));
}
void RouterMetrics::OnPlaced(absl::Duration spent) {
  placement_.Observe(absl::ToDoubleSeconds(spent));
}
void RouterMetrics::OnRejected(absl::string_view reason) {
  const auto place = rejections_.find(std::string(reason));
  (place == rejections_.end() ? rejections_.at(kOther) : place->second)->Increment();
}
void RouterMetrics::OnFailover(common::v1::Role role, bool ongoing) {
  if (const auto place = failovers_.find({role, ongoing}); place != failovers_.end()) {
    place->second->Increment();
  }
}

void RouterMetrics::OnWorkerFailure(absl::string_view worker, const absl::Status& status,
                                    absl::string_view request_id) {
  LogWarning(
      absl::StrCat("worker ", Quoted(worker), " has failed: ", Quoted(status.message(), 500)),
      request_id);
}
void RouterMetrics::OnFirstToken(absl::Duration since_arrival) {
  first_token_.Observe(absl::ToDoubleSeconds(since_arrival));
}
void RouterMetrics::OnLaterTokens(int tokens, absl::Duration since_message_before) {
  for (int i = 0; i < tokens; ++i) {
    inter_token_.Observe(absl::ToDoubleSeconds(since_message_before) / tokens);
  }
}

void RouterMetrics::OnRequest() { in_flight_.Increment(); }

void RouterMetrics::OnReply(const absl::Status& status, bool is_stream,
                            absl::Duration since_arrival, int tokens, absl::Duration generating) {
  in_flight_.Decrement();
  requests_.at({status.code(), is_stream})->Increment();
  whole_.Observe(absl::ToDoubleSeconds(since_arrival));
  if (tokens > 1) per_token_.Observe(absl::ToDoubleSeconds(generating) / (tokens - 1));
}

void RouterMetrics::OnCancelled(bool by_deadline) { cancellations_.at(by_deadline)->Increment(); }

void RouterMetrics::OnFleet(const control::v1::ListWorkersResponse& fleet) {
  std::map<std::pair<common::v1::Role, control::v1::WorkerState>, int> counts;
  for (const control::v1::FleetMember& worker : fleet.workers()) {
    for (const int role : worker.hello().roles()) {
      ++counts[{static_cast<common::v1::Role>(role), worker.load().state()}];
    }
  }
  for (const auto& [key, gauge] : workers_) gauge->Set(counts[key]);
}

}  // namespace minicpmv::router
