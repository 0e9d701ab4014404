#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "minicpmv/common/v1/landing.pb.h"
#include "minicpmv/control/v1/fleet.pb.h"
#include "runtime/link/link.h"
#include "runtime/link/link_observer.h"
#include "runtime/link/local_link.h"
#include "services/common/credentials.h"

namespace minicpmv {

class GrpcLink;
class PostThread;

struct LinksOptions {
  std::string worker_id;
  Incarnation incarnation = {};
  std::string layout_fingerprint;  // as in ModelIdentity
  Credentials credentials;
  // How long a parcel may travel, from its label on, before its link is given up.
  absl::Duration travel_deadline = absl::Seconds(10);
  // How long bringing a link up may take.
  absl::Duration open_deadline = absl::Seconds(5);
  // Between two attempts; doubles from the first to the last while they fail.
  absl::Duration first_backoff = absl::Milliseconds(50);
  absl::Duration last_backoff = absl::Seconds(2);
};

// All links that start at one worker, one for each receiving process. Thread-safe.
class Links {
 public:
  // `own`: the worker's own landings. Both live longer than this.
  Links(LinksOptions options, Inbox& own, LinkObserver& observer);
  // Ends every open ticket with UNAVAILABLE. Not on a thread of gRPC's, nor in a ticket.
  ~Links();

  // The link to the process that keeps `destination`'s landing, made at first use. Returns at once:
  // parcels wait until the link is up, and end with UNAVAILABLE if it does not come up. After a
  // break the next parcel brings it up again. A local link where the destination is this worker.
  // Lives as long as this. INVALID_ARGUMENT: a destination that names no worker, address or
  // landing.
  absl::StatusOr<Link*> To(const common::v1::Destination& destination);

  // For heartbeats: each worker that a link was asked for, by id.
  std::vector<control::v1::LinkState> States() const;

 private:
  const LinksOptions options_;
  LinkObserver& observer_;
  LocalLink local_;
  std::unique_ptr<PostThread> thread_;  // of all links but the local one
  mutable std::mutex mutex_;
  // By worker id and incarnation; guarded by mutex_.
  std::map<std::pair<std::string, Incarnation>, std::unique_ptr<GrpcLink>> links_;
  std::map<std::string, Incarnation> newest_;  // guarded by mutex_
};

// INVALID_ARGUMENT: no incarnation of 16 bytes, or slot 0.
absl::StatusOr<LandingName> LandingNameOf(const common::v1::Destination& destination);

}  // namespace minicpmv
