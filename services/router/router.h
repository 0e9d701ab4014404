#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "services/router/chat_flow.h"
#include "services/router/chat_request.h"
#include "services/router/fleet.h"
#include "services/router/loop.h"
#include "services/router/quotas.h"
#include "services/router/request_queue.h"
#include "services/router/router_model.h"
#include "services/router/router_options.h"
#include "services/router/router_watch.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// Takes requests and answers them through the workers of its fleet. For the loop's thread, the
// destructor included. What it is given outlives it.
class Router {
 public:
  using RequestNumber = uint64_t;

  Router(RouterOptions options, const RouterModel& model, Workers& workers, Loop& loop,
         RouterWatch& watch);
  // Gives up what still runs; nobody is told.
  ~Router();

  // Answers later, through the sink, which is destroyed after its end.
  RequestNumber Start(ChatRequest request, std::unique_ptr<ReplySink> sink);
  // The client has gone: every call that is open for it is given up. The sink is destroyed without
  // being told anything. A request that has ended already: nothing. Not from inside a sink.
  void Cancel(RequestNumber number);

  Fleet& fleet() { return fleet_; }
  // Brings a medium to its home ahead of a request, as part of `work`. Told as Workers::PutMedia
  // is; UNAVAILABLE: there is no vision worker.
  [[nodiscard]] std::unique_ptr<Open> PutMedia(const std::string& cache_scope,
                                               const TraceContext& work,
                                               const RequestMedium& medium,
                                               Told<common::v1::MediaInfo> told);
  chat::v1::ListModelsResponse ListModels() const;
  // Running and waiting.
  size_t requests() const { return requests_.size(); }
  // Waiting, not let in yet.
  size_t waiting() const { return queue_.size(); }

 private:
  struct Request;

  // A flow has ended.
  void End(RequestNumber number, const absl::Status& status);
  // Its deadline has passed.
  void Expire(RequestNumber number);
  std::string NewRequestId();
  // The queue is asked again when a role has been missing for too long.
  void WatchRoles();

  const RouterOptions options_;
  const RouterModel& model_;
  Workers& workers_;
  Loop& loop_;
  RouterWatch& watch_;
  std::mt19937_64 random_;
  Fleet fleet_;
  RequestQueue queue_;
  Quotas quotas_;
  const FlowGround ground_;
  RequestNumber last_ = 0;
  std::map<RequestNumber, std::unique_ptr<Request>> requests_;
  std::vector<std::unique_ptr<Request>> ended_;
  std::unique_ptr<Loop::Alarm> clear_, settle_;
};

}  // namespace minicpmv::router
