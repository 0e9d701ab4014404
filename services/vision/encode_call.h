#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "minicpmv/vision/v1/vision_service.pb.h"
#include "runtime/base/trace_file.h"
#include "runtime/link/landings.h"
#include "runtime/link/link.h"
#include "services/common/calls.h"
#include "services/vision/encode_queue.h"
#include "services/vision/encode_request.h"
#include "services/vision/pixel_arrivals.h"
#include "services/vision/vision_room.h"
#include "services/vision/work_line.h"

namespace minicpmv::vision {

// One EncodeMedia call: a landing for pixels, slices in the queue, rows and pixels on their way.
// Keeps itself alive from Start until it has ended and no parcel names it any more, neither one
// that is being placed here nor one that it sent.
class EncodeCall final : public EncodeObserver,
                         public Landing,
                         public std::enable_shared_from_this<EncodeCall> {
 public:
  using Stream = ResponseStream<v1::EncodeMediaResponse>;

  EncodeCall(VisionRoom& room, std::shared_ptr<Stream> stream, EncodePlan plan, TraceContext trace);
  ~EncodeCall() override;

  // From now on the call ends by itself.
  void Start(std::unique_ptr<Worker::Call> admitted);

  // Ends the call with this unless it has ended. Any thread.
  void End(const absl::Status& status);

 private:
  // A run of rows or lines that is sent, again where it has to be.
  struct Cargo {
    Link* link = nullptr;
    Parcel parcel;
    bool is_pixels = false;
    int64_t span = 0;  // of plan_.spans; pixels: of pixel_spans_
    int attempts = 0;
    absl::Time begun;  // the last attempt
  };
  // Of a span whose rows are on their way, or of a helper's span.
  struct Sent {
    RowsCache::Pin rows;  // pixels: none
    int64_t parcels = 0;
  };

  // EncodeObserver.
  void OnOpened(SubImages sub_images, absl::Time start, absl::Time end) override;
  void OnRowsFound(int64_t slice, RowsCache::Pin rows) override;
  void OnRowsMade(int64_t slice, RowsCache::Pin rows, absl::Time start, absl::Time end) override;
  void OnFailed(const absl::Status& status) override { End(status); }

  // Landing; on a link's thread.
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override;
  void Landed(const ParcelLabel& label, const absl::Status& status) override;

  absl::Status FindLinks();
  absl::Status ReservePixels();
  void Submit();
  void SendRows(int64_t slice, RowsCache::Pin rows, v1::SliceProgress::Step step);
  std::vector<Cargo> CargoOfPixels(const SubImages& sub_images) const;
  void Send(std::vector<Cargo> cargo);
  void OnParcelEnd(Cargo cargo, const absl::Status& status);
  void Tell(int64_t span_index, v1::SliceProgress::Step step);
  void EndIfDone();
  void LetGoIfOver();

  VisionRoom& room_;
  const OpenCalls::Entry open_;
  const std::shared_ptr<Stream> stream_;
  EncodePlan plan_;  // its medium goes to the queue
  const TracedWork work_;
  const bool is_home_;
  const absl::Time handed_;
  int64_t reserved_pixels_ = 0;

  // Set by Start.
  std::unique_ptr<Worker::Call> admitted_;
  Link* destination_ = nullptr;  // null: no rows to send
  LandingName destination_name_;
  struct Helper {
    Link* link;
    LandingName name;
  };
  std::vector<Helper> helpers_;       // in the order of plan_.helpers
  std::vector<int64_t> pixel_spans_;  // of all helpers: the span's number in the prompt

  std::mutex mutex_;  // guards all below
  bool is_ended_ = false, is_done_ = false;
  bool is_slot_open_ = false;
  uint64_t slot_ = 0;
  std::optional<int64_t> job_;
  std::optional<PixelArrivals> arrivals_;
  std::vector<PixelArrivals::Whole> ready_;  // until there is a job
  SubImages sub_images_;                     // while pixels are on their way
  std::vector<Sent> rows_, pixels_;
  int64_t parcels_ = 0;                          // on their way
  int64_t landed_rows_ = 0, landed_pixels_ = 0;  // spans
  int64_t told_ = 0;                             // of those, the caller knows
  int64_t cached_ = 0;
  uint64_t sent_bytes_ = 0;
  WorkLine media_, encode_, transfer_;
  std::shared_ptr<EncodeCall> self_;
};

}  // namespace minicpmv::vision
