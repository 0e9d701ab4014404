#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "minicpmv/control/v1/fleet.pb.h"
#include "minicpmv/transfer/v1/transfer_service.grpc.pb.h"
#include "runtime/link/link.h"
#include "runtime/link/link_observer.h"
#include "runtime/link/parcel.h"
#include "services/common/calls.h"
#include "services/common/links.h"
#include "services/common/post_thread.h"

namespace minicpmv {

// The process at the other end.
struct LinkPeer {
  std::string worker_id;
  std::string address;  // "host:port"
  Incarnation incarnation = {};
};

// A link over TransferService, by a connection of its own. All its state is the thread's that it
// shares with its siblings; tickets are called there.
//
// It is down, or opening (OpenLink is asked), or up (Deliver is open). A parcel brings it up. When
// it breaks, what travels ends, and what waits goes on in its next life; when it does not come up,
// what waits ends as well.
class GrpcLink final : public Link {
 public:
  // All live longer than this.
  GrpcLink(const LinksOptions& options, LinkPeer peer, PostThread& thread, LinkObserver& observer);
  // It has been closed, and the thread is no more.
  ~GrpcLink() override;

  absl::string_view kind() const override { return "grpc"; }
  void Send(Parcel parcel, Ticket ticket) override;
  void Drop(const LandingName& landing) override;

  // Ends every ticket with UNAVAILABLE, now and later; `closed` is called on the thread when no
  // call is open any more. Once.
  void Close(absl::AnyInvocable<void()> closed);

  control::v1::LinkState state() const;

 private:
  enum class State { kDown, kOpening, kUp };
  struct Travelling {
    uint64_t number = 0;
    ParcelLabel label;
    Ticket ticket;
    absl::Time began;
    ByteReader content;  // what has not been handed to gRPC yet
    uint32_t crc = 0;    // of what has
  };
  using Stream = ClientBidi<grpc::ByteBuffer, grpc::ByteBuffer>;
  using Opening = ClientUnary<transfer::v1::OpenLinkRequest, transfer::v1::OpenLinkResponse>;

  // All of these on the thread.
  void TakeSent();
  void Step();
  void Open();
  void Opened(absl::StatusOr<transfer::v1::OpenLinkResponse> response);
  void Begin(const transfer::v1::OpenLinkResponse& response);
  void Pump();
  void BeginTravel(WaitingParcel waiting);
  void Answered(uint64_t life, bool is_readable, const transfer::v1::DeliverResponse& response);
  void Refused(const transfer::v1::Refused& refused);
  void Ended(uint64_t life, const absl::Status& status);
  void Watch();
  // Ends what travels.
  void Break(const absl::Status& status, LinkFailure failure);
  void FailWaiting(const absl::Status& status);
  void BackOff();
  // Takes a parcel out of what travels; CHECKs nothing of the peer's.
  bool TakeTravelling(uint64_t number, Travelling* taken);
  void CallEnded();
  void ShowState();
  transfer::v1::LinkEnd SenderEnd() const;
  transfer::v1::LinkEnd ReceiverEnd() const;

  const LinksOptions& options_;
  const LinkPeer peer_;
  PostThread& thread_;
  LinkObserver& observer_;

  mutable std::mutex mutex_;
  std::vector<WaitingParcel> sent_;  // guarded by mutex_: not seen by the thread yet
  control::v1::LinkState shown_;     // guarded by mutex_

  // The thread's own from here on.
  State state_ = State::kDown;
  std::deque<WaitingParcel> waiting_;
  std::deque<Travelling> travelling_;  // by number; only the last may have content left
  // Of the present attempt, and of each stream whose end has not been told yet, by life: see
  // ResponseReceiver.
  std::shared_ptr<grpc::Channel> channel_;
  std::map<uint64_t, std::shared_ptr<grpc::Channel>> stream_channels_;
  std::unique_ptr<transfer::v1::TransferService::Stub> stub_;
  std::shared_ptr<Opening> opening_;
  std::shared_ptr<Stream> stream_;
  uint64_t life_ = 0;  // counts attempts: what an earlier one still tells is not listened to
  uint64_t epoch_ = 0;
  uint64_t last_number_ = 0;
  uint32_t strips_ = 0, credit_ = 0;  // of this life
  uint64_t strip_bytes_ = 0;
  bool is_watching_ = false;
  bool is_delayed_ = false;  // an attempt is due later
  absl::Duration backoff_;   // before the next attempt; 0 after one that carried a parcel
  absl::Time next_attempt_ = absl::InfinitePast();
  int open_calls_ = 0;
  bool is_closing_ = false;
  absl::AnyInvocable<void()> closed_;
  // For the rate: bytes that landed, and the time in which parcels travelled.
  double landed_bytes_ = 0, busy_seconds_ = 0;
  absl::Time busy_since_;
};

}  // namespace minicpmv
