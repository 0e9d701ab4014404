#include "services/router/media_homes.h"

#include <algorithm>
#include <utility>

#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "services/common/status_proto.h"
#include "services/router/placement.h"
#include "services/router/request_plan.h"

namespace minicpmv::router {
namespace {

// What is wrong with the medium, wherever it is brought.
bool IsTheMediumsFault(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsUnimplemented(status) ||
         absl::IsNotFound(status) || absl::IsOutOfRange(status);
}

}  // namespace

MediaHomes::MediaHomes(const ChatRequest& request, const common::v1::RequestScope& scope,
                       Workers& workers, const CallGround& ground, std::set<std::string>& failed,
                       RequestBill& bill)
    : request_(request),
      scope_(scope),
      workers_(workers),
      ground_(ground),
      failed_(failed),
      bill_(bill) {
  for (size_t i = 0; i < request.media.size(); ++i) {
    const RequestMedium& shown = request.media[i];
    size_t place = 0;
    while (place < media_.size() && media_[place].digest != shown.digest) ++place;
    medium_of_.push_back(place);
    if (place < media_.size()) continue;
    Medium& medium = media_.emplace_back();
    medium.index = i;
    medium.digest = shown.digest;
    medium.bytes = shown.bytes;
  }
}

bool MediaHomes::AreHome() const {
  return std::all_of(media_.begin(), media_.end(), [this](const Medium& medium) {
    return medium.info && medium.home && ground_.fleet.IsUp(*medium.home);
  });
}

absl::Status MediaHomes::OpenPuts() {
  // All homes are chosen first: opening a put changes the fleet.
  std::vector<std::pair<Medium*, WorkerName>> homeless;
  for (Medium& medium : media_) {
    if (medium.put != nullptr || (medium.home && ground_.fleet.IsUp(*medium.home))) continue;
    ASSIGN_OR_RETURN(WorkerName home, HomeOf(scope_.cache_scope(), medium.digest, failed_,
                                             ground_.fleet.Snapshot()));
    homeless.emplace_back(&medium, std::move(home));
  }
  for (auto& [homeless_medium, home] : homeless) {
    Medium& medium = *homeless_medium;
    medium.home.reset();
    medium.put = std::make_unique<WorkerCall<common::v1::MediaInfo>>(
        ground_, home, common::v1::ROLE_VISION, Work());
    medium.put->Begin("PutMedia", [&](const TraceContext& work, Told<common::v1::MediaInfo> told) {
      return workers_.PutMedia(home, work, scope_, medium.digest, medium.bytes, std::move(told));
    });
    medium.put->WaitPatiently();
  }
  return absl::OkStatus();
}

bool MediaHomes::HasNews() const {
  return std::any_of(media_.begin(), media_.end(), [](const Medium& medium) {
    return medium.put != nullptr && medium.put->has_news();
  });
}

absl::Status MediaHomes::TakeNews() {
  for (Medium& medium : media_) {
    if (medium.put == nullptr || !medium.put->has_news()) continue;
    if (medium.put->has_message()) {
      medium.info = medium.put->Take();
      medium.home = medium.put->worker();
      bill_.Add(common::v1::WORK_MEDIA, medium.put->began(), ground_.loop.Now());
      medium.put = nullptr;
      continue;
    }
    RETURN_IF_ERROR(Fail(medium, medium.put->Failure().status));
  }
  return absl::OkStatus();
}

absl::Status MediaHomes::Fail(Medium& medium, const absl::Status& status) {
  const WorkerName home = medium.put->worker();
  medium.put = nullptr;
  if (IsTheMediumsFault(status)) {
    const std::string path = MediumPath(request_, medium.index);
    return WithField(Blame(path, status), path);
  }
  failed_.insert(home.incarnation);
  ++failures_;
  last_failure_ = status;
  return absl::OkStatus();
}

void MediaHomes::Forget(const WorkerName& home) {
  for (Medium& medium : media_) {
    if (medium.home && medium.home->incarnation == home.incarnation) medium.home.reset();
  }
}

std::vector<common::v1::MediaInfo> MediaHomes::infos() const {
  std::vector<common::v1::MediaInfo> infos;
  for (const size_t place : medium_of_) infos.push_back(*media_[place].info);
  return infos;
}

const WorkerName& MediaHomes::HomeOfMedium(size_t medium) const {
  return *media_[medium_of_[medium]].home;
}

}  // namespace minicpmv::router
