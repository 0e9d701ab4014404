#include "services/vision/encode_call.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "runtime/base/tracing.h"
#include "services/common/bills.h"
#include "services/common/links.h"
#include "services/common/test_points.h"

namespace minicpmv::vision {
namespace {

// Small enough that parcels of several calls mix, large enough that labels do not count.
constexpr int64_t kParcelBytes = 1 << 20;
static_assert(kParcelBytes <= kMaxParcelBytes);
// A parcel that was damaged, or dropped on behalf of another call to the same landing, is sent
// again; not for ever.
constexpr int kMostAttempts = 4;

absl::Status ParcelFailure(absl::string_view whose, const absl::Status& status) {
  const absl::Status blamed = Blame(whose, status);
  switch (status.code()) {
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
      return absl::UnavailableError(blamed.message());
    case absl::StatusCode::kInvalidArgument:
      return absl::FailedPreconditionError(blamed.message());
    default:
      return blamed;
  }
}

}  // namespace

EncodeCall::EncodeCall(VisionRoom& room, std::shared_ptr<Stream> stream, EncodePlan plan,
                       TraceContext trace)
    : room_(room),
      open_(room.calls),
      stream_(std::move(stream)),
      plan_(std::move(plan)),
      work_{plan_.request_id, std::move(trace)},
      is_home_(plan_.medium.has_value()),
      handed_(room.worker.clock().Now()) {}

EncodeCall::~EncodeCall() { room_.pixel_room += reserved_pixels_; }

absl::Status EncodeCall::FindLinks() {
  if (!plan_.spans.empty()) {
    ASSIGN_OR_RETURN(destination_name_, LandingNameOf(plan_.destination));
    ASSIGN_OR_RETURN(destination_, room_.worker.links().To(plan_.destination));
  }
  for (const HelperSpans& helper : plan_.helpers) {
    absl::StatusOr<LandingName> name = LandingNameOf(helper.destination);
    if (!name.ok()) return Blame("held.helpers", name.status());
    absl::StatusOr<Link*> link = room_.worker.links().To(helper.destination);
    if (!link.ok()) return Blame("held.helpers", link.status());
    helpers_.push_back({*link, *name});
    for (const SpanOfSlice& span : helper.spans) pixel_spans_.push_back(span.index);
  }
  return absl::OkStatus();
}

absl::Status EncodeCall::ReservePixels() {
  if (is_home_ || plan_.spans.empty()) return absl::OkStatus();
  const int64_t bytes = PixelArrivals::BytesOf(plan_.spans, room_.patch_size());
  reserved_pixels_ = bytes;
  if (room_.pixel_room.fetch_sub(bytes) < bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no room for ", bytes, " bytes of pixels that are to arrive"));
  }
  ASSIGN_OR_RETURN(arrivals_, PixelArrivals::Create(plan_.spans, room_.patch_size()));
  return absl::OkStatus();
}

void EncodeCall::Start(std::unique_ptr<Worker::Call> admitted) {
  const std::shared_ptr<EncodeCall> self = shared_from_this();
  absl::Status status = FindLinks();
  if (status.ok()) status = ReservePixels();
  if (!status.ok()) {
    End(status);
    return;  // `admitted` is given back
  }
  v1::EncodeMediaResponse response;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_ended_) return;
    admitted_ = std::move(admitted);
    self_ = self;
    rows_.resize(plan_.spans.size());
    pixels_.resize(pixel_spans_.size());
    slot_ = room_.worker.landings().Open(*this).slot;
    is_slot_open_ = true;
    const Incarnation& incarnation = room_.worker.incarnation();
    common::v1::Landing& landing = *response.mutable_landing();
    landing.set_incarnation(incarnation.data(), incarnation.size());
    landing.set_slot(slot_);
  }
  stream_->Send(std::move(response));
  TestPoint("vision.opened", plan_.request_id);
  stream_->OnGone([self] { self->End(absl::CancelledError("the caller has gone")); });
  Submit();
  EndIfDone();
}

void EncodeCall::Submit() {
  EncodeJob job;
  job.request = plan_.request_id;
  for (SpanOfSlice& span : plan_.spans) job.slices.push_back(std::move(span.slice));
  job.medium = std::move(plan_.medium);
  const int64_t id = room_.queue.Submit(std::move(job), shared_from_this());
  std::vector<PixelArrivals::Whole> ready;
  bool is_ended = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ended = is_ended_;
    job_ = id;
    ready.swap(ready_);
  }
  if (is_ended) room_.queue.Drop(id);
  for (PixelArrivals::Whole& whole : ready) {
    room_.queue.Provide(id, whole.span, std::move(whole.pixels));
  }
}

void EncodeCall::End(const absl::Status& status) {
  const std::shared_ptr<EncodeCall> self = shared_from_this();
  std::optional<int64_t> job;
  bool is_slot_open = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_ended_) return;
    is_ended_ = true;
    job = job_;
    is_slot_open = is_slot_open_;
  }
  stream_->End(status);
  if (!is_slot_open) return;  // it has not started
  TraceWork(TraceRow::kRequest, "EncodeMedia", handed_, kNow, work_,
            {{"slices", static_cast<int64_t>(plan_.spans.size())},
             {"helpers", static_cast<int64_t>(helpers_.size())},
             {"error", status.ok() ? "" : absl::StatusCodeToString(status.code())}});
  // No pixels are placed any more, nothing more is encoded, and what waits is not sent.
  room_.worker.landings().Close(slot_, [self] {
    {
      const std::lock_guard<std::mutex> lock(self->mutex_);
      self->is_slot_open_ = false;
    }
    self->LetGoIfOver();
  });
  if (job) room_.queue.Drop(*job);
  if (status.ok()) return;
  if (destination_ != nullptr) destination_->Drop(destination_name_);
  for (const Helper& helper : helpers_) helper.link->Drop(helper.name);
}

void EncodeCall::LetGoIfOver() {
  std::unique_ptr<Worker::Call> admitted;
  SubImages sub_images;
  std::vector<Sent> rows;
  std::optional<PixelArrivals> arrivals;
  std::shared_ptr<EncodeCall> self;  // the last one, perhaps: goes first
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!is_ended_ || is_slot_open_ || parcels_ > 0 || self_ == nullptr) return;
    admitted = std::move(admitted_);
    sub_images = std::move(sub_images_);
    rows = std::move(rows_);
    arrivals = std::move(arrivals_);
    ready_.clear();
    self = std::move(self_);
  }
  // Its end may wait for a hand_back that uses this call.
  admitted.reset();
}

// --- What the queue tells.

void EncodeCall::OnOpened(SubImages sub_images, absl::Time start, absl::Time end) {
  TracePart(TraceRow::kMedia, "decode and cut", start, end, work_);
  std::vector<Cargo> cargo;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_ended_) return;
    media_.Add(start, end);
    cargo = CargoOfPixels(sub_images);
    if (!cargo.empty()) sub_images_ = std::move(sub_images);
    for (const Cargo& piece : cargo) ++pixels_[static_cast<size_t>(piece.span)].parcels;
    parcels_ += static_cast<int64_t>(cargo.size());
  }
  Send(std::move(cargo));
}

void EncodeCall::OnRowsFound(int64_t slice, RowsCache::Pin rows) {
  SendRows(slice, std::move(rows), v1::SliceProgress::STEP_FOUND_ROWS);
}

void EncodeCall::OnRowsMade(int64_t slice, RowsCache::Pin rows, absl::Time start, absl::Time end) {
  start = std::max(start, handed_);
  TracePart(TraceRow::kEncode, "slice", start, end, work_,
            {{"span", plan_.spans[static_cast<size_t>(slice)].index}});
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    encode_.Add(start, end);
  }
  SendRows(slice, std::move(rows), v1::SliceProgress::STEP_MADE_ROWS);
}

void EncodeCall::SendRows(int64_t slice, RowsCache::Pin rows, v1::SliceProgress::Step step) {
  const int64_t index = plan_.spans[static_cast<size_t>(slice)].index;
  const ConstTensorView all = rows->view;
  const int64_t most =
      std::max<int64_t>(1, kParcelBytes / static_cast<int64_t>(all.Rows(0, 1).bytes()));
  std::vector<Cargo> cargo;
  for (int64_t first = 0; first < all.rows(); first += most) {
    const ConstTensorView part = all.Rows(first, std::min(most, all.rows() - first));
    Cargo& piece = cargo.emplace_back();
    piece.link = destination_;
    piece.span = slice;
    ParcelLabel& label = piece.parcel.label;
    label.landing = destination_name_;
    label.kind = ParcelKind::kRows;
    label.index = index;
    label.first = first;
    label.count = part.rows();
    label.dtype = part.dtype;
    label.bytes = part.bytes();
    piece.parcel.content = {part};
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_ended_) return;
    if (step == v1::SliceProgress::STEP_FOUND_ROWS) ++cached_;
    rows_[static_cast<size_t>(slice)] = {std::move(rows), static_cast<int64_t>(cargo.size())};
    parcels_ += static_cast<int64_t>(cargo.size());
  }
  Tell(index, step);
  Send(std::move(cargo));
}

std::vector<EncodeCall::Cargo> EncodeCall::CargoOfPixels(const SubImages& sub_images) const {
  std::vector<Cargo> cargo;
  int64_t number = 0;
  for (size_t i = 0; i < helpers_.size(); ++i) {
    for (const SpanOfSlice& span : plan_.helpers[i].spans) {
      const Image& image = (*sub_images)[static_cast<size_t>(span.slice.sub_image)];
      // The tower looks at whole patches only: nothing else travels.
      const int64_t width = int64_t{span.columns} * room_.patch_size();
      const int64_t height = int64_t{span.rows} * room_.patch_size();
      const int64_t line_bytes = width * 3;
      const int64_t most = std::max<int64_t>(1, kParcelBytes / line_bytes);
      for (int64_t first = 0; first < height; first += most) {
        Cargo& piece = cargo.emplace_back();
        piece.link = helpers_[i].link;
        piece.is_pixels = true;
        piece.span = number;
        ParcelLabel& label = piece.parcel.label;
        label.landing = helpers_[i].name;
        label.kind = ParcelKind::kPixels;
        label.index = span.index;
        label.first = first;
        label.count = std::min(most, height - first);
        label.width = width;
        label.dtype = DType::kU8;
        label.bytes = static_cast<uint64_t>(label.count * line_bytes);
        // Lines that are cut short lie apart.
        const int64_t run = image.width == width ? label.count : 1;
        for (int64_t line = first; line < first + label.count; line += run) {
          piece.parcel.content.emplace_back(image.rgb.data() + line * 3 * image.width, DType::kU8,
                                            Shape{run, line_bytes});
        }
      }
      ++number;
    }
  }
  return cargo;
}

// --- Parcels that leave.

void EncodeCall::Send(std::vector<Cargo> cargo) {
  for (Cargo& piece : cargo) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      piece.begun = room_.worker.clock().Now();
      transfer_.Begin(piece.begun);
    }
    // A copy travels: this one may have to be sent again.
    Parcel parcel = piece.parcel;
    Link& link = *piece.link;
    ++piece.attempts;
    link.Send(std::move(parcel),
              [self = shared_from_this(), piece = std::move(piece)](absl::Status status) mutable {
                self->OnParcelEnd(std::move(piece), status);
              });
  }
}

void EncodeCall::OnParcelEnd(Cargo cargo, const absl::Status& status) {
  const bool may_repeat =
      (absl::IsDataLoss(status) || absl::IsCancelled(status)) && cargo.attempts < kMostAttempts;
  bool is_last = false, is_half = false, repeats = false, is_ended = false;
  Sent done;
  SubImages sent_images;
  absl::Time now;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    now = room_.worker.clock().Now();
    transfer_.End(now);
    is_ended = is_ended_;
    repeats = may_repeat && !is_ended;
    if (!repeats) --parcels_;
    if (status.ok() && !is_ended) {
      if (cargo.link->kind() != "local") sent_bytes_ += cargo.parcel.label.bytes;
      Sent& sent = (cargo.is_pixels ? pixels_ : rows_)[static_cast<size_t>(cargo.span)];
      is_last = --sent.parcels == 0;
      if (is_last) {
        done = std::move(sent);
        if (cargo.is_pixels) {
          if (++landed_pixels_ == static_cast<int64_t>(pixels_.size())) {
            sent_images = std::move(sub_images_);
          }
        } else {
          const int64_t all = static_cast<int64_t>(rows_.size());
          ++landed_rows_;
          is_half = 2 * landed_rows_ >= all && 2 * (landed_rows_ - 1) < all;
        }
      }
    }
  }
  TracePart(TraceRow::kTransfer, cargo.is_pixels ? "pixels" : "rows", cargo.begun, now, work_,
            {{"span", static_cast<int64_t>(cargo.parcel.label.index)},
             {"bytes", static_cast<int64_t>(cargo.parcel.label.bytes)},
             {"error", status.ok() ? "" : absl::StatusCodeToString(status.code())}});
  if (repeats) {
    std::vector<Cargo> again;
    again.push_back(std::move(cargo));
    Send(std::move(again));
    return;
  }
  if (is_ended) {
    LetGoIfOver();
    return;
  }
  if (!status.ok()) {
    End(ParcelFailure(cargo.is_pixels ? "helper" : "destination", status));
    LetGoIfOver();
    return;
  }
  if (!is_last) return;
  if (is_half) TestPoint("vision.rows_half_landed", plan_.request_id);
  Tell(cargo.parcel.label.index,
       cargo.is_pixels ? v1::SliceProgress::STEP_SENT_PIXELS : v1::SliceProgress::STEP_LANDED_ROWS);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++told_;
  }
  EndIfDone();
}

void EncodeCall::Tell(int64_t span_index, v1::SliceProgress::Step step) {
  v1::EncodeMediaResponse response;
  response.mutable_slice()->set_span_index(static_cast<uint32_t>(span_index));
  response.mutable_slice()->set_step(step);
  stream_->Send(std::move(response));
}

void EncodeCall::EndIfDone() {
  v1::EncodeMediaResponse response;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t all = static_cast<int64_t>(rows_.size() + pixels_.size());
    if (is_ended_ || is_done_ || told_ < all || (arrivals_ && !arrivals_->complete())) return;
    is_done_ = true;
    common::v1::Bill& bill = *response.mutable_done()->mutable_bill();
    const absl::Time begun = std::min({media_.start(), encode_.start(), transfer_.start()});
    if (begun != absl::InfiniteFuture()) {
      AddLine(bill, common::v1::WORK_QUEUE, absl::ZeroDuration(), begun - handed_, begun - handed_);
    }
    media_.AddTo(bill, common::v1::WORK_MEDIA, handed_);
    encode_.AddTo(bill, common::v1::WORK_ENCODE, handed_);
    transfer_.AddTo(bill, common::v1::WORK_TRANSFER, handed_);
    bill.set_cached_slices(static_cast<uint32_t>(cached_));
    bill.set_sent_bytes(sent_bytes_);
  }
  stream_->Send(std::move(response));
  End(absl::OkStatus());
}

// --- Pixels that arrive.

absl::StatusOr<std::vector<TensorView>> EncodeCall::Place(const ParcelLabel& label) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!arrivals_) return absl::InvalidArgumentError("the landing takes no pixels");
  return arrivals_->Place(label);
}

void EncodeCall::Landed(const ParcelLabel& label, const absl::Status& status) {
  PixelArrivals::Whole whole;
  std::optional<int64_t> job;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    whole = arrivals_->Landed(label, status.ok());
    if (whole.pixels == nullptr) return;
    job = job_;
    if (!job) ready_.push_back(std::move(whole));
  }
  if (job) room_.queue.Provide(*job, whole.span, std::move(whole.pixels));
  EndIfDone();
}

}  // namespace minicpmv::vision
