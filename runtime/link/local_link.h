#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "absl/strings/string_view.h"
#include "runtime/link/link.h"
#include "runtime/link/link_observer.h"
#include "runtime/link/parcel.h"

namespace minicpmv {

// Both ends in one process: asks the inbox for places and copies, on a thread of its own. Tickets
// are called there.
class LocalLink final : public Link {
 public:
  // Both live longer than this.
  LocalLink(Inbox& inbox, LinkObserver& observer);
  // A parcel that is being copied ends first. Not in a ticket.
  ~LocalLink() override;

  absl::string_view kind() const override { return "local"; }
  void Send(Parcel parcel, Ticket ticket) override;
  void Drop(const LandingName& landing) override;

 private:
  void Run();
  void Carry(WaitingParcel waiting);

  Inbox& inbox_;
  LinkObserver& observer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<WaitingParcel> waiting_;  // guarded by mutex_
  bool is_ending_ = false;             // guarded by mutex_
  std::thread thread_;
};

}  // namespace minicpmv
