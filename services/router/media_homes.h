#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "minicpmv/common/v1/media.pb.h"
#include "minicpmv/common/v1/scope.pb.h"
#include "services/router/chat_request.h"
#include "services/router/fleet.h"
#include "services/router/request_bill.h"
#include "services/router/task.h"
#include "services/router/worker_call.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// Brings the media of one request to their homes, and again when a home is lost. For the loop's
// thread; may be destroyed at any time.
class MediaHomes {
 public:
  // `failed`: incarnations of workers that have failed the request. What is given outlives this.
  MediaHomes(const ChatRequest& request, const common::v1::RequestScope& scope, Workers& workers,
             const CallGround& ground, std::set<std::string>& failed, RequestBill& bill);

  // Every medium is at a home that is up.
  bool AreHome() const;
  // Opens a put for each medium that is not, and is not on its way. UNAVAILABLE: there is no vision
  // worker.
  absl::Status OpenPuts();
  bool HasNews() const;
  // Takes what has come. What another home or another time may mend is kept in mind, and failures()
  // rises; other errors are returned, with the field.
  absl::Status TakeNews();
  // Puts that had to be made again.
  int failures() const { return failures_; }
  // Of the last one.
  const absl::Status& last_failure() const { return last_failure_; }

  // What was brought there is not there any more.
  void Forget(const WorkerName& home);

  // By the request's media, once they are home.
  std::vector<common::v1::MediaInfo> infos() const;
  const WorkerName& HomeOfMedium(size_t medium) const;

 private:
  // One of different bytes.
  struct Medium {
    size_t index = 0;  // the first of the request that shows it
    std::string digest;
    std::shared_ptr<const std::string> bytes;
    std::optional<common::v1::MediaInfo> info;
    std::optional<WorkerName> home;
    std::unique_ptr<WorkerCall<common::v1::MediaInfo>> put;
  };

  absl::Status Fail(Medium& medium, const absl::Status& status);

  const ChatRequest& request_;
  const common::v1::RequestScope& scope_;
  Workers& workers_;
  const CallGround ground_;
  std::set<std::string>& failed_;
  RequestBill& bill_;
  std::vector<Medium> media_;
  std::vector<size_t> medium_of_;  // by the request's media
  int failures_ = 0;
  absl::Status last_failure_;
};

}  // namespace minicpmv::router
