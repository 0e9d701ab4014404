#pragma once

#include <array>
#include <cstdint>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

// Random at each start of a process: a worker that came back is another one.
using Incarnation = std::array<uint8_t, 16>;

// A place to land, named by three numbers. A parcel is taken only if all three are current.
struct LandingName {
  Incarnation incarnation = {};  // of the receiver
  uint64_t epoch = 0;            // of the directed pair; grows at each rebuild of the link
  uint64_t slot = 0;             // never used again within an incarnation
};

enum class ParcelKind : uint8_t {
  kPixels,       // vision to vision: one slice, ready for the tower
  kRows,         // vision to prefill: embedding rows of one span
  kPages,        // prefill to decode: whole pages of one layer
  kActivations,  // stage to stage: the rows of one step
};

// Travels before the bytes and says all that the receiver needs to place them.
struct ParcelLabel {
  LandingName landing;
  ParcelKind kind = ParcelKind::kRows;
  int64_t index = 0;   // kPixels: slice; kRows: span; kPages: layer; kActivations: step
  int64_t first = 0;   // first row, or first position for kPages (a multiple of the page size)
  int64_t count = 0;   // rows or positions; only a parcel that ends a prompt may end inside a page
  bool last = false;   // nothing more of this index follows
  uint64_t bytes = 0;  // of the content
};

// What is sent. The content stays alive and unchanged until the ticket has ended.
struct Parcel {
  ParcelLabel label;
  ConstTensorView content;  // dense, on the sender's device
};

// Called once, on a thread of the link, when a parcel has ended: OK once the receiver has the bytes
// in place; ABORTED if one of the three numbers is no longer current; UNAVAILABLE if the link broke
// or was closed; DATA_LOSS if what arrived is not what was sent; else what the inbox answered. It
// must not block; it may send.
using Ticket = absl::AnyInvocable<void(absl::Status)>;

// Where parcels for one process arrive. Called by any thread of any link; must not block.
class Inbox {
 public:
  virtual ~Inbox() = default;

  // Says where the content goes: exactly label.bytes, on the device that the link was opened for,
  // kept until Landed. A status other than OK refuses this parcel and ends its ticket; no other
  // parcel is concerned. NOT_FOUND: no such landing (any more). INVALID_ARGUMENT: it does not fit
  // the landing.
  virtual absl::StatusOr<TensorView> Place(const ParcelLabel& label) = 0;

  // After each Place that succeeded, once: the content is there (OK), or it will not come and the
  // place holds anything. The link will not touch the place again.
  virtual void Landed(const ParcelLabel& label, const absl::Status& status) = 0;
};

// One direction of a pair of processes, or of two parts of one process. Thread-safe. Parcels of one
// landing arrive in the order of sending; between landings there is no order. The link has a
// bounded ring of strips whose credit travels back: who sends faster than the receiver places waits
// in line, as parcels that hold no memory of the link.
class Link {
 public:
  // Ends every open ticket with UNAVAILABLE and waits for parcels that are being placed.
  virtual ~Link() = default;

  // "local", "adopted", "grpc" or "nccl": for logs and metrics.
  virtual absl::string_view kind() const = 0;
  // Of the pair at this moment; labels carry the one that was current when the landing was granted.
  virtual uint64_t epoch() const = 0;

  // Queues a parcel and returns at once. The ticket ends exactly once, possibly before this
  // returns.
  virtual void Send(const Parcel& parcel, Ticket ticket) = 0;

  // No parcel for this slot is placed any more: those on their way end with ABORTED. `closed` is
  // called once no place of the slot is in use, so that what lies there may be given back; if the
  // link cannot say so in time it aborts itself first (a new epoch), never the process. Other slots
  // go on.
  virtual void CloseSlot(uint64_t slot, absl::AnyInvocable<void()> closed) = 0;
};

}  // namespace minicpmv
