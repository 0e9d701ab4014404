#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "minicpmv/control/v1/fleet_service.pb.h"
#include "services/router/fleet_snapshot.h"
#include "services/router/loop.h"
#include "services/router/workers.h"

namespace minicpmv::router {

struct FleetOptions {
  // A worker without any progress for so long counts as lost. Unset: 4 times its predicted step and
  // 5 s.
  std::optional<absl::Duration> stall_after;
  // What the fleet serves. Empty: as the first worker that joins says.
  std::string model_fingerprint, layout_fingerprint;
};

// The stream on which a worker says how it is, as the fleet talks back. Lives until it is told its
// end, or has left.
class FleetStream {
 public:
  virtual ~FleetStream() = default;
  virtual void Order(const control::v1::Order& order) = 0;
  // Nothing is sent after it, and nothing that still comes counts.
  virtual void End(const absl::Status& status) = 0;
};

// What the router knows of its workers. Everything that comes from them is checked here. For the
// loop's thread.
class Fleet {
 public:
  using StreamId = int64_t;

  Fleet(FleetOptions options, Loop& loop);
  ~Fleet();

  // A worker says hello on a new stream. The older stream of the same id ends with ABORTED.
  // INVALID_ARGUMENT names the field. FAILED_PRECONDITION: another model or layout than the
  // fleet's.
  absl::StatusOr<StreamId> Join(const control::v1::WorkerHello& hello, FleetStream& stream);
  // INVALID_ARGUMENT: a load that cannot be. A stream that is not current says nothing.
  absl::Status Report(StreamId stream, const control::v1::Heartbeat& heartbeat);
  // The stream broke or the worker has left: lost, whatever it was doing.
  void Leave(StreamId stream);

  // How often workers are to report: several times within what counts as a stall.
  absl::Duration heartbeat_interval() const;

  // As the router sees them, by id; lost ones until somebody of the same id comes or an hour
  // passes.
  control::v1::ListWorkersResponse List(const control::v1::ListWorkersRequest& request) const;
  // NOT_FOUND: no such worker. UNAVAILABLE: it is lost.
  absl::Status Drain(absl::string_view worker_id, std::optional<absl::Duration> grace);

  // Everything placement looks at, what was opened and what has ended since the last report
  // included. As it is until something changes.
  const FleetSnapshot& Snapshot() const;
  // Since when no ready worker plays `role`; nothing while one does.
  std::optional<absl::Time> MissingSince(common::v1::Role role) const;
  // "" while nobody has decided.
  const std::string& model_fingerprint() const { return options_.model_fingerprint; }
  const std::string& layout_fingerprint() const { return options_.layout_fingerprint; }

  // Work that the router has opened at a worker, for as long as the call is open. Until a report
  // can have seen it, it is added to the load; once the call has ended, it is taken from the load
  // of a report that still has it. Does not outlive the fleet.
  class Opened {
   public:
    ~Opened();
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;

   private:
    friend class Fleet;
    struct Entry {
      WorkerName worker;
      common::v1::Role role = common::v1::ROLE_UNSPECIFIED;
      Work work;
      uint64_t number = 0;   // of those opened at the worker's present stream
      uint64_t reports = 0;  // of that stream, when it was opened
      bool is_told = false;
      std::function<void()> lost;
    };
    Opened(Fleet& fleet, std::list<Entry>::iterator entry) : fleet_(fleet), entry_(entry) {}
    Fleet& fleet_;
    const std::list<Entry>::iterator entry_;
  };
  // `lost` is called once, later, when that life of the worker is lost (soon, if it is already).
  [[nodiscard]] std::unique_ptr<Opened> Open(const WorkerName& worker, common::v1::Role role,
                                             const Work& work, std::function<void()> lost);
  // The worker had no room for such work: none is placed there before it reports again.
  void NoteRefusal(const WorkerName& worker, common::v1::Role role);
  // That life of the worker can be asked, as far as is known.
  bool IsUp(const WorkerName& worker) const;
  // How long a call there may go without any sign of life.
  absl::Duration Patience(const WorkerName& worker) const;

  // Called after each change that may make room or take it away.
  void OnChange(std::function<void()> changed) { changed_ = std::move(changed); }

 private:
  struct Ended {
    int64_t calls = 0, units = 0;
  };
  struct Member {
    control::v1::WorkerHello hello;
    control::v1::WorkerLoad load;
    FleetStream* stream = nullptr;     // null: it has left
    StreamId id = 0;                   // of the stream
    uint64_t opened = 0, reports = 0;  // since the stream was opened
    absl::Time last_report;
    std::set<common::v1::Role> full;          // since then
    std::map<common::v1::Role, Ended> ended;  // since then, and in that report
    bool is_lost = false;
  };

  const Member* Find(const WorkerName& worker) const;
  Member* Current(StreamId stream);
  // What counts as a stall of this worker.
  absl::Duration StallOf(const Member& member) const;
  bool IsStalled(const Member& member) const;
  static bool IsReady(const Member& member);
  // Whether a report has seen the call.
  static bool IsSeen(const Member& member, const Opened::Entry& entry);
  // Takes what has ended since a report from it. `still_open`: units of calls that it has, too.
  static void TakeOff(const Ended& ended, int64_t still_open, WorkerView::RoleView& reported);
  void NoteEnd(const Opened::Entry& entry);
  // Those who will send to each other bring up their links before they are needed.
  void Introduce(const Member& newcomer);
  void Lose(Member& member);
  // Looks for stalls, again and again.
  void Watch();
  void Forget();
  void TellLostSoon();
  void TellLost();
  FleetSnapshot TakeSnapshot() const;
  void Changed();         // what placement looks at
  void MembersChanged();  // and who is ready for which role

  FleetOptions options_;
  const bool is_model_given_, is_layout_given_;
  Loop& loop_;
  std::map<std::string, Member, std::less<>> members_;  // by worker id
  StreamId last_stream_ = 0;
  std::map<common::v1::Role, absl::Time> missing_since_;
  std::list<Opened::Entry> opened_;
  mutable std::optional<FleetSnapshot> snapshot_;  // none: it has to be taken anew
  std::function<void()> changed_;
  std::unique_ptr<Loop::Alarm> watch_, check_, tell_lost_;
};

}  // namespace minicpmv::router
