#include "services/router/router.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/common/fleet_names.h"
#include "services/common/status_proto.h"
#include "services/router/placement.h"

namespace minicpmv::router {
namespace {

// Readers of JSON that keep numbers as doubles hand a seed back unchanged.
constexpr int kSeedBits = 53;

FleetOptions FleetOptionsOf(const RouterOptions& options, const RouterModel& model) {
  return {options.stall_after, model.fingerprint(), ""};
}

uint64_t SeedOf(const chat::v1::StreamReplyRequest& request, uint64_t drawn) {
  const chat::v1::Sampling& sampling = request.options().sampling();
  if (request.has_resume()) return request.resume().seed();
  return sampling.has_seed() ? sampling.seed() : drawn >> (64 - kSeedBits);
}

// A request that never was open.
class Unopened final : public Open {
 public:
  std::unique_ptr<Loop::Alarm> tell;
};

}  // namespace

struct Router::Request {
  std::unique_ptr<ReplySink> sink;
  std::optional<ChatFlow> flow;
  std::unique_ptr<Loop::Alarm> start, deadline;
};

Router::Router(RouterOptions options, const RouterModel& model, Workers& workers, Loop& loop,
               RouterWatch& watch)
    : options_(options),
      model_(model),
      workers_(workers),
      loop_(loop),
      watch_(watch),
      random_(options.random_seed.has_value()
                  ? *options.random_seed
                  : uint64_t{std::random_device()()} << 32 | std::random_device()()),
      fleet_(FleetOptionsOf(options, model), loop),
      queue_({options.queue_limit, options.tenant_limit, options.longest_wait}, options_.tenants, loop, watch),
      quotas_(options_.tenants, loop, watch),
      ground_{options_, model_, workers_, loop_, fleet_, queue_, quotas_, watch_} {
  fleet_.OnChange([this] {
    queue_.PumpSoon();
    WatchRoles();
  });
  WatchRoles();
}

Router::~Router() {
  fleet_.OnChange(nullptr);
  ended_.clear();
  requests_.clear();
}

Router::RequestNumber Router::Start(ChatRequest request, std::unique_ptr<ReplySink> sink) {
  const RequestNumber number = ++last_;
  auto made = std::make_unique<Request>();
  made->sink = std::move(sink);
  const std::string id = request.request.resume().request_id().empty()
                             ? NewRequestId()
                             : request.request.resume().request_id();
  const uint64_t seed = SeedOf(request.request, random_());
  const absl::Time deadline = request.deadline;
  made->flow.emplace(ground_, std::move(request), id, seed, *made->sink,
                     [this, number](const absl::Status& status) { End(number, status); });
  ChatFlow& flow = *made->flow;
  made->start = loop_.At(loop_.Now(), [&flow] { flow.Start(); });
  if (deadline != absl::InfiniteFuture()) {
    made->deadline = loop_.At(deadline, [this, number] { Expire(number); });
  }
  requests_.emplace(number, std::move(made));
  return number;
}

void Router::Cancel(RequestNumber number) { requests_.erase(number); }

void Router::Expire(RequestNumber number) {
  auto ended = requests_.extract(number);
  std::unique_ptr<Request>& request = ended.mapped();
  request->flow.reset();  // every open call with it
  request->sink->End(absl::DeadlineExceededError("the deadline has passed"));
}

void Router::End(RequestNumber number, const absl::Status& status) {
  auto ended = requests_.extract(number);
  ended.mapped()->sink->End(status);
  // It is the flow itself that calls.
  ended_.push_back(std::move(ended.mapped()));
  ended_.back()->deadline = nullptr;
  if (clear_ != nullptr) return;
  clear_ = loop_.At(loop_.Now(), [this] {
    clear_ = nullptr;
    ended_.clear();
  });
}

std::string Router::NewRequestId() { return absl::StrFormat("%016x", random_()); }

void Router::WatchRoles() {
  absl::Time next = absl::InfiniteFuture();
  for (const common::v1::Role role : kRoles) {
    const std::optional<absl::Time> since = fleet_.MissingSince(role);
    if (since && *since + options_.settle > loop_.Now()) {
      next = std::min(next, *since + options_.settle);
    }
  }
  settle_ = nullptr;
  if (next == absl::InfiniteFuture()) return;
  settle_ = loop_.At(next, [this] {
    queue_.PumpSoon();
    WatchRoles();
  });
}

std::unique_ptr<Open> Router::PutMedia(const std::string& cache_scope, const TraceContext& work,
                                       const RequestMedium& medium,
                                       Told<common::v1::MediaInfo> told) {
  const absl::StatusOr<WorkerName> home =
      HomeOf(cache_scope, medium.digest, /*failed=*/{}, fleet_.Snapshot());
  if (!home.ok()) {
    auto unopened = std::make_unique<Unopened>();
    unopened->tell =
        loop_.At(loop_.Now(), [told = std::move(told), status = home.status()] { told(status); });
    return unopened;
  }
  common::v1::RequestScope scope;
  scope.set_request_id(NewRequestId());
  scope.set_cache_scope(cache_scope);
  return workers_.PutMedia(*home, work, scope, medium.digest, medium.bytes, std::move(told));
}

chat::v1::ListModelsResponse Router::ListModels() const {
  chat::v1::ListModelsResponse response;
  *response.add_models() = model_.ToProto();
  return response;
}

}  // namespace minicpmv::router
