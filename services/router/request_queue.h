#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/router/loop.h"
#include "services/router/router_watch.h"

namespace minicpmv::router {

// Requests that wait until the fleet has room for them. What waits holds nothing of the fleet.
//
// Who came earlier is let in earlier; costly kinds, and tenants of whom many wait already, stand a
// few seconds behind, and nobody waits past its deadline for one who has time. Who does not fit is
// passed by others, but not for ever: in the end age wins. For the loop's thread.
class RequestQueue {
 public:
  struct Limits {
    size_t requests = 256;  // that were not let in yet
    size_t of_one_tenant = 256;
  };

  RequestQueue(const Limits& limits, Loop& loop, RouterWatch& watch);
  ~RequestQueue();

 private:
  using Key = std::pair<absl::Time, uint64_t>;

 public:
  // A request's place, from its arrival to its end. Who was let in and comes back has the place
  // that it had.
  class Place {
   public:
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    // Asks `go`, soon and after each change, when it is this request's turn, until it says that it
    // goes on. It must not destroy the place.
    void Wait(std::function<bool()> go);
    // The fleet works on it from now on. Only the first time counts.
    void LetIn();

   private:
    friend class RequestQueue;
    Place(RequestQueue& queue, RequestClass request_class, std::string tenant, Key key);

    RequestQueue& queue_;
    const RequestClass class_;
    const std::string tenant_;
    const Key key_;
    const absl::Time arrival_;
    bool is_new_ = true;
    std::function<bool()> go_;
  };

  // RESOURCE_EXHAUSTED with RetryInfo: the queue is full (reason QUEUE_FULL), or the deadline will
  // have passed before it is this request's turn (DEADLINE_HOPELESS). The queue outlives the place.
  absl::StatusOr<std::unique_ptr<Place>> Enter(RequestClass request_class,
                                               const std::string& tenant, absl::Time deadline);

  // There may be room: those who wait are asked, in order, from the loop.
  void PumpSoon();

  // Not let in yet.
  size_t size() const { return new_; }
  bool empty() const { return waiting_.empty(); }
  // How long the next one would wait, by the measured rate. Zero where nobody waits or nothing has
  // been measured.
  absl::Duration EstimatedWait() const;

 private:
  void Pump();
  void Count(const Place& place, int difference);
  absl::Status Refuse(absl::string_view reason, absl::string_view words);

  const Limits limits_;
  Loop& loop_;
  RouterWatch& watch_;
  uint64_t last_ = 0;
  size_t new_ = 0;
  std::map<std::string, size_t> tenants_;
  std::map<RequestClass, size_t> classes_;
  std::map<Key, Place*> waiting_;
  std::unique_ptr<Loop::Alarm> pump_;

  // Between two that are let in while others wait.
  double seconds_between_ = 0;
  absl::Time last_let_in_;
};

}  // namespace minicpmv::router
