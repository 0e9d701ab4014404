#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "minicpmv/transfer/v1/transfer_service.pb.h"
#include "runtime/link/link.h"
#include "runtime/link/link_observer.h"
#include "runtime/link/parcel.h"
#include "services/common/calls.h"
#include "services/common/deliver_messages.h"
#include "services/common/post_thread.h"

namespace minicpmv {

struct TransferOptions;

// One call of Deliver at the receiving end: one life of one link. Places what comes, on the thread
// of gRPC that brings it, and answers. Thread-safe.
class Delivery final : public std::enable_shared_from_this<Delivery> {
 public:
  using Stream = ServerBidi<grpc::ByteBuffer, grpc::ByteBuffer>;
  // Asked with the first message: is this the present life? It may keep the delivery then, until
  // `ended` of Life.
  using Bind =
      std::function<absl::Status(const transfer::v1::LinkLife&, std::shared_ptr<Delivery>)>;

  // All live longer than the call.
  Delivery(std::shared_ptr<Stream> stream, const TransferOptions& options, Inbox& inbox,
           LinkObserver& observer, PostThread& thread);

  // Reads until the call ends. `ended` is told the life whose first message was taken. Once.
  void Start(Bind bind, absl::AnyInvocable<void(const transfer::v1::LinkLife&)> ended);

  // Ends the call; nothing is being placed any more when this returns.
  void GiveUp(const absl::Status& status);
  // Ends the call with OK after the parcel that is being placed; then calls `finished`.
  void Finish(absl::AnyInvocable<void()> finished);

 private:
  enum class Where { kFirst, kBetween, kPlacing, kSkipping };

  void Receive(std::optional<grpc::ByteBuffer> message);
  // What follows holds mutex_. A status ends the call.
  absl::Status Take(const grpc::ByteBuffer& message);
  absl::Status TakeFirst(const transfer::v1::DeliverRequest& request);
  absl::Status TakeLabel(const transfer::v1::Label& label);
  absl::Status TakeBytes(ArrivedBytes bytes);
  absl::Status Refuse(uint64_t number, transfer::v1::Refused::Reason reason,
                      const absl::Status& status);
  absl::Status Answer(const transfer::v1::DeliverResponse& response);
  absl::Status ReturnStrip();
  void EndPlacing(const absl::Status& status);
  void Watch();
  // Calls what has to be called without the lock. Ends the call when it has not ended yet.
  void End(std::unique_lock<std::mutex> lock, const absl::Status& status);

  const std::shared_ptr<Stream> stream_;
  const TransferOptions& options_;
  Inbox& inbox_;
  LinkObserver& observer_;
  PostThread& thread_;

  std::mutex mutex_;
  // All of this is guarded by mutex_.
  Bind bind_;
  bool is_ended_ = false;
  absl::AnyInvocable<void(const transfer::v1::LinkLife&)> ended_;
  std::vector<absl::AnyInvocable<void()>> finished_;  // not empty: it ends after this parcel
  Where where_ = Where::kFirst;
  transfer::v1::LinkLife life_;
  uint64_t last_number_ = 0;
  int freed_ = 0;           // strips that the sender has not been told of
  ParcelLabel label_;       // kPlacing
  ByteWriter places_;       // kPlacing
  uint32_t crc_ = 0;        // kPlacing
  uint64_t skip_left_ = 0;  // kSkipping
  absl::Time placing_since_;
  bool is_watching_ = false;
};

}  // namespace minicpmv
