#include "services/common/links.h"

#include <condition_variable>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "services/common/grpc_link.h"
#include "services/common/incarnation.h"
#include "services/common/post_thread.h"
#include "services/common/read_prompt.h"

namespace minicpmv {

Links::Links(LinksOptions options, Inbox& own, LinkObserver& observer)
    : options_(std::move(options)),
      observer_(observer),
      local_(own, observer),
      thread_(std::make_unique<PostThread>()) {}

Links::~Links() {
  std::mutex mutex;
  std::condition_variable closed;
  size_t open = links_.size();
  for (auto& [peer, link] : links_) {
    link->Close([&] {
      const std::lock_guard<std::mutex> lock(mutex);
      --open;
      closed.notify_one();
    });
  }
  {
    std::unique_lock<std::mutex> lock(mutex);
    closed.wait(lock, [&] { return open == 0; });
  }
  thread_ = nullptr;
}

absl::StatusOr<Link*> Links::To(const common::v1::Destination& destination) {
  ASSIGN_OR_RETURN(const LandingName landing, LandingNameOf(destination));
  if (destination.worker_id().empty()) return BadField("destination.worker_id", "is empty");
  if (destination.worker_id() == options_.worker_id) return &local_;
  if (absl::Status status = CheckAddress(destination.address()); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("destination.address: ", status.message()));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  newest_[destination.worker_id()] = landing.incarnation;
  std::unique_ptr<GrpcLink>& link = links_[{destination.worker_id(), landing.incarnation}];
  if (link == nullptr) {
    link = std::make_unique<GrpcLink>(
        options_, LinkPeer{destination.worker_id(), destination.address(), landing.incarnation},
        *thread_, observer_);
  }
  return link.get();
}

std::vector<control::v1::LinkState> Links::States() const {
  std::vector<control::v1::LinkState> states;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [worker_id, incarnation] : newest_) {
    states.push_back(links_.at({worker_id, incarnation})->state());
  }
  return states;
}

absl::StatusOr<LandingName> LandingNameOf(const common::v1::Destination& destination) {
  const common::v1::Landing& landing = destination.landing();
  const absl::StatusOr<Incarnation> incarnation = IncarnationFrom(landing.incarnation());
  if (!incarnation.ok()) {
    return BadField("destination.landing.incarnation",
                    absl::StrCat("is none: ", incarnation.status().message()));
  }
  if (landing.slot() == 0) return BadField("destination.landing.slot", "is 0, which no landing has");
  return LandingName{*incarnation, landing.slot()};
}

}  // namespace minicpmv
