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
#include "services/router/tenants.h"

namespace minicpmv::router {

// Requests that wait until the fleet has room for them. What waits holds nothing of the fleet.
//
// Tenants take turns so that the work of those who have requests waiting is as their weights are
// (start-time fair queueing: a turn is at the virtual time at which the tenant's work so far ends,
// and work lasts as long as it is heavy, divided by the weight). Who has not asked for long has no
// credit for that. Within a tenant who came earlier is let in earlier; costly kinds stand a few
// seconds behind, and nobody waits past its deadline for one who has time. Who does not fit is
// passed by others, but not for ever: in the end age wins. For the loop's thread.
class RequestQueue {
 public:
  struct Limits {
    size_t requests = 256;  // that were not let in yet
    size_t of_one_tenant = 256;
    // As EstimatedWait has it.
    absl::Duration wait = absl::InfiniteDuration();
  };

  // All outlive it.
  RequestQueue(const Limits& limits, const TenantBook& tenants, Loop& loop, RouterWatch& watch);
  ~RequestQueue();

 private:
  using Key = std::pair<absl::Time, uint64_t>;

 public:
  // A request's place, from its arrival to its end. Who was let in and comes back goes before all
  // who were not.
  class Place {
   public:
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    // Asks `go`, soon and after each change, when it is this request's turn, until it says that it
    // goes on. It must not destroy any place. `work`: what the fleet will have to do, in any unit.
    void Wait(double work, std::function<bool()> go);
    // The fleet works on it from now on. Only the first time counts.
    void LetIn();
    // What the work has come to in the end, where that is not what Wait was told.
    void Correct(double work);

   private:
    friend class RequestQueue;
    Place(RequestQueue& queue, RequestClass request_class, std::string tenant, Key key);

    RequestQueue& queue_;
    const RequestClass class_;
    const std::string tenant_;
    const Key key_;
    const absl::Time arrival_;
    bool is_new_ = true;
    double work_ = 0;
    std::function<bool()> go_;
  };

  // RESOURCE_EXHAUSTED with RetryInfo: the queue is full or its wait too long (reason QUEUE_FULL),
  // or the deadline will have passed before it is this request's turn (DEADLINE_HOPELESS). The
  // queue outlives the place.
  absl::StatusOr<std::unique_ptr<Place>> Enter(RequestClass request_class,
                                               const std::string& tenant, absl::Time deadline);

  // There may be room: those who wait are asked, in order, from the loop.
  void PumpSoon();

  // Not let in yet.
  size_t size() const { return new_; }

 private:
  using Waiting = std::map<Key, Place*>;
  // A tenant of whom somebody waits or has entered.
  struct Line {
    double weight = 1;
    size_t entered = 0;  // and not let in
    // The virtual time at which the work that was let in ends.
    double end = 0;
    Waiting waiting;
  };

  void Pump();
  void AskReturned(int& passed);
  void AskLines(int& passed);
  // Whether nobody is asked after this one, who did not fit.
  bool IsLast(const Place& place, int& passed) const;
  void Count(const Place& place, int difference);
  void Leave(const Place& place);
  void ForgetIdleLines();
  // How long the tenant's next one would wait, by the measured rate. Zero where nobody waits or
  // nothing has been measured.
  absl::Duration EstimatedWait(const std::string& tenant) const;
  absl::Status Refuse(const std::string& tenant, absl::string_view reason, absl::string_view words);

  const Limits limits_;
  const TenantBook& tenants_;
  Loop& loop_;
  RouterWatch& watch_;
  uint64_t last_ = 0;
  size_t new_ = 0;
  std::map<std::string, Line> lines_;
  double virtual_time_ = 0;  // of the last turn
  Waiting returned_;         // were let in before
  size_t waiting_ = 0;       // in all lines, and returned
  std::map<RequestClass, size_t> classes_;
  std::unique_ptr<Loop::Alarm> pump_;

  // Between two that are let in while others wait.
  double seconds_between_ = 0;
  absl::Time last_let_in_;
};

}  // namespace minicpmv::router
