#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

// Random at each start of a process: a worker that came back is another one.
using Incarnation = std::array<uint8_t, 16>;

// A place to land. Together with the epoch of the link that a parcel comes by: three numbers guard
// it, and a parcel is taken only if all three are current.
struct LandingName {
  Incarnation incarnation = {};  // of the receiver
  uint64_t slot = 0;             // above 0; never used again within an incarnation

  friend bool operator==(const LandingName&, const LandingName&) = default;
};

enum class ParcelKind : uint8_t {
  kPixels,       // vision to vision: lines of one slice, [count, width * 3] bytes
  kRows,         // vision to prefill: embedding rows of one span, [count, hidden]
  kPages,        // prefill to decode: whole pages of one layer
  kActivations,  // stage to stage: the rows of one step
};

// No parcel is larger, on any kind of link: whoever has more sends several.
inline constexpr int64_t kMaxParcelBytes = int64_t{16} << 20;

// Travels before the bytes and says all that the receiver needs to place them.
struct ParcelLabel {
  LandingName landing;
  ParcelKind kind = ParcelKind::kRows;
  // kPixels and kRows: the span's number in the prompt; kPages: the layer, counted over the whole
  // decoder; kActivations: the step.
  int64_t index = 0;
  // First line, row or position; a multiple of the page size for kPages.
  int64_t first = 0;
  // Lines, rows or positions; only the parcel that ends a prompt may end inside a page, and its
  // bytes are those of the whole page.
  int64_t count = 0;
  int64_t width = 0;  // kPixels: of the slice, in pixels; else 0
  DType dtype = DType::kF32;
  uint64_t bytes = 0;  // of the content; in [1, kMaxParcelBytes]
};

// What is sent: pieces that lie anywhere and together are the content, in order. They stay alive
// and unchanged until the ticket has ended.
struct Parcel {
  ParcelLabel label;
  std::vector<ConstTensorView> content;  // each dense, on the sender's device
};

// Called once, on any thread, when a parcel has ended: OK once the receiver has the bytes in place;
// ABORTED if one of the three numbers is no longer current; UNAVAILABLE if the link broke or was
// closed; DATA_LOSS if what arrived is not what was sent; CANCELLED: see Link::Drop;
// INVALID_ARGUMENT for a label with a number that is negative or too large; else what the inbox
// answered. It must not block; it may send.
using Ticket = absl::AnyInvocable<void(absl::Status)>;

// Where parcels for one process arrive. Called by any thread of any link; must not block.
class Inbox {
 public:
  virtual ~Inbox() = default;

  // Says where the content goes: places that lie anywhere and together hold exactly label.bytes,
  // kept until Landed. A status other than OK refuses this parcel and ends its ticket; no other
  // parcel is concerned. ABORTED: not this incarnation, or no such slot (any more).
  // INVALID_ARGUMENT: it does not fit the landing.
  virtual absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) = 0;

  // After each Place that succeeded, once: the content is there (OK), or it will not come and the
  // place holds anything. The link will not touch the place again.
  virtual void Landed(const ParcelLabel& label, const absl::Status& status) = 0;
};

// The sending end of one direction of a pair of processes, or of two parts of one process.
// Thread-safe. Parcels of one landing arrive in the order of sending; between landings there is no
// order. The link has a bounded ring of strips whose credit travels back: who sends faster than the
// receiver places waits in line, as parcels that hold no memory of the link. A kind of link that
// breaks comes to life again, with a higher epoch, when the next parcel is sent.
class Link {
 public:
  // Ends every open ticket with UNAVAILABLE.
  virtual ~Link() = default;

  // "local", "grpc" or "nccl": for logs and metrics.
  virtual absl::string_view kind() const = 0;

  // Queues a parcel and returns at once. The ticket ends exactly once, possibly before this
  // returns.
  virtual void Send(Parcel parcel, Ticket ticket) = 0;

  // Parcels for this landing that have not begun to travel end with CANCELLED; the others soon end
  // by themselves, for the link has a deadline for what travels.
  virtual void Drop(const LandingName& landing) = 0;
};

}  // namespace minicpmv
