#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "minicpmv/transfer/v1/transfer_service.pb.h"
#include "runtime/link/link.h"
#include "runtime/link/link_observer.h"
#include "services/common/delivery.h"
#include "services/common/post_thread.h"
#include "services/common/transfer_service.h"

namespace minicpmv {

// Which links end here and in which life they are: one for each end that has opened one.
class Arrivals {
 public:
  // Inbox and observer live longer than this.
  Arrivals(TransferOptions options, Inbox& inbox, LinkObserver& observer);

  // A new life: what an earlier one was placing has ended when this returns. Statuses as in the
  // proto.
  absl::StatusOr<transfer::v1::OpenLinkResponse> Open(const transfer::v1::OpenLinkRequest& request);
  // Answers a call of Deliver.
  void Deliver(std::shared_ptr<Delivery::Stream> stream);
  // `closed` is called when what that life was placing has ended. ABORTED: not its present life.
  void Close(const transfer::v1::LinkLife& life, absl::AnyInvocable<void(absl::Status)> closed);

 private:
  struct Life {
    uint64_t epoch = 0;
    std::shared_ptr<Delivery> delivery;  // once Deliver has been called
  };
  // Both ends as one key. NOT_FOUND, ABORTED, INVALID_ARGUMENT: this is not the receiver.
  absl::StatusOr<std::string> KeyOf(const transfer::v1::LinkEnd& sender,
                                    const transfer::v1::LinkEnd& receiver) const;
  // The first message of a stream: its epoch is current from here on.
  absl::Status Bind(const transfer::v1::LinkLife& life, std::shared_ptr<Delivery> delivery);
  void Forget(const std::string& key, uint64_t epoch);

  const TransferOptions options_;
  Inbox& inbox_;
  LinkObserver& observer_;
  std::mutex mutex_;
  uint64_t last_epoch_ = 0;            // guarded by mutex_
  std::map<std::string, Life> lives_;  // guarded by mutex_
  PostThread thread_;                  // for deadlines
};

}  // namespace minicpmv
