#include "services/common/arrivals.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "services/common/incarnation.h"
#include "services/common/transfer_version.h"

namespace minicpmv {
namespace {

constexpr size_t kLongestWorkerId = 256;
// Senders that opened a link and never used it are forgotten, the oldest first, beyond so many.
constexpr size_t kMostLives = 4096;

}  // namespace

Arrivals::Arrivals(TransferOptions options, Inbox& inbox, LinkObserver& observer)
    : options_(std::move(options)), inbox_(inbox), observer_(observer) {}

absl::StatusOr<transfer::v1::OpenLinkResponse> Arrivals::Open(
    const transfer::v1::OpenLinkRequest& request) {
  ASSIGN_OR_RETURN(const std::string key, KeyOf(request.sender(), request.receiver()));
  const uint32_t version = std::min(request.last_version(), kLastTransferVersion);
  if (version < std::max(request.first_version(), kFirstTransferVersion)) {
    return absl::FailedPreconditionError(
        absl::StrCat("no common transfer version: the sender speaks ", request.first_version(),
                     " to ", request.last_version(), ", this worker ", kFirstTransferVersion,
                     " to ", kLastTransferVersion));
  }
  if (request.layout_fingerprint() != options_.layout_fingerprint) {
    return absl::FailedPreconditionError("the layouts of pages and rows differ");
  }
  if (std::find(request.kinds().begin(), request.kinds().end(), common::v1::LINK_KIND_HOST) ==
      request.kinds().end()) {
    return absl::UnimplementedError("none of the offered kinds of link");
  }
  transfer::v1::OpenLinkResponse response;
  response.set_version(version);
  response.set_kind(common::v1::LINK_KIND_HOST);
  response.set_strips(static_cast<uint32_t>(options_.strips));
  response.set_strip_bytes(static_cast<uint64_t>(options_.strip_bytes));
  std::shared_ptr<Delivery> earlier;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    Life& life = lives_[key];
    life.epoch = ++last_epoch_;
    earlier = std::move(life.delivery);
    life.delivery = nullptr;
    response.set_link_epoch(life.epoch);
    if (lives_.size() > kMostLives) {
      auto oldest = lives_.end();
      for (auto it = lives_.begin(); it != lives_.end(); ++it) {
        if (it->second.delivery != nullptr) continue;
        if (oldest == lives_.end() || it->second.epoch < oldest->second.epoch) oldest = it;
      }
      lives_.erase(oldest);  // at least this one has no delivery
    }
  }
  if (earlier != nullptr) earlier->GiveUp(absl::AbortedError("the link has a newer life"));
  return response;
}

void Arrivals::Deliver(std::shared_ptr<Delivery::Stream> stream) {
  std::make_shared<Delivery>(std::move(stream), options_, inbox_, observer_, thread_)
      ->Start(
          [this](const transfer::v1::LinkLife& life, std::shared_ptr<Delivery> delivery) {
            return Bind(life, std::move(delivery));
          },
          [this](const transfer::v1::LinkLife& life) {
            const absl::StatusOr<std::string> key = KeyOf(life.sender(), life.receiver());
            if (key.ok()) Forget(*key, life.link_epoch());
          });
}

void Arrivals::Close(const transfer::v1::LinkLife& life,
                     absl::AnyInvocable<void(absl::Status)> closed) {
  const absl::StatusOr<std::string> key = KeyOf(life.sender(), life.receiver());
  if (!key.ok()) {
    closed(key.status());
    return;
  }
  std::shared_ptr<Delivery> delivery;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto found = lives_.find(*key);
    if (found == lives_.end() || found->second.epoch != life.link_epoch()) {
      lock.unlock();
      closed(absl::AbortedError("not the link's present life"));
      return;
    }
    delivery = std::move(found->second.delivery);
    lives_.erase(found);
  }
  if (delivery == nullptr) {
    closed(absl::OkStatus());
    return;
  }
  delivery->Finish([closed = std::move(closed)]() mutable { closed(absl::OkStatus()); });
}

absl::StatusOr<std::string> Arrivals::KeyOf(const transfer::v1::LinkEnd& sender,
                                            const transfer::v1::LinkEnd& receiver) const {
  if (receiver.worker_id() != options_.worker_id ||
      receiver.incarnation() != BytesOf(options_.incarnation)) {
    return absl::AbortedError("the receiver is a process that is no more");
  }
  if (receiver.device() != 0 || sender.device() != 0) {
    return absl::NotFoundError("a link over this service has no device but 0 at either end");
  }
  if (sender.worker_id().empty() || sender.worker_id().size() > kLongestWorkerId) {
    return absl::InvalidArgumentError("sender.worker_id has no length from 1 to 256");
  }
  RETURN_IF_ERROR(IncarnationFrom(sender.incarnation()).status());
  return absl::StrCat(sender.incarnation(), sender.worker_id());
}

absl::Status Arrivals::Bind(const transfer::v1::LinkLife& life,
                            std::shared_ptr<Delivery> delivery) {
  ASSIGN_OR_RETURN(const std::string key, KeyOf(life.sender(), life.receiver()));
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = lives_.find(key);
  if (found == lives_.end() || found->second.epoch != life.link_epoch()) {
    return absl::AbortedError("not the link's present life");
  }
  if (found->second.delivery != nullptr) {
    return absl::AbortedError("the link's present life has a call already");
  }
  found->second.delivery = std::move(delivery);
  return absl::OkStatus();
}

void Arrivals::Forget(const std::string& key, uint64_t epoch) {
  std::shared_ptr<Delivery> forgotten;  // ends outside the lock
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = lives_.find(key);
  if (found == lives_.end() || found->second.epoch != epoch) return;
  forgotten = std::move(found->second.delivery);
  lives_.erase(found);
}

}  // namespace minicpmv
