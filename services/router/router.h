#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "absl/time/time.h"
#include "services/router/chat_request.h"
#include "services/router/fleet.h"
#include "services/router/loop.h"
#include "services/router/router_model.h"
#include "services/router/router_watch.h"
#include "services/router/workers.h"

namespace minicpmv::router {

struct RouterOptions {
  // Requests that wait, at most; and of one tenant.
  size_t queue_limit = 256;
  size_t tenant_limit = 256;
  // For so long requests wait while no worker plays a role that they need, then they are refused.
  absl::Duration settle = absl::Seconds(10);
  // See FleetOptions.
  std::optional<absl::Duration> stall_after;
  // How often workers are replaced for one reply before it fails.
  int failovers = 16;
};

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

  Fleet& fleet();
  // Brings a medium to its home ahead of a request. Told as Workers::PutMedia; UNAVAILABLE: no
  // vision worker.
  [[nodiscard]] std::unique_ptr<Open> PutMedia(const std::string& cache_scope,
                                               const RequestMedium& medium,
                                               Told<common::v1::MediaInfo> told);
  chat::v1::ListModelsResponse ListModels() const;
  // Running and waiting.
  size_t requests() const;
};

}  // namespace minicpmv::router
