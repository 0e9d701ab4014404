#include "tools/minicpmv/picture_rows.h"

#include <utility>

#include "runtime/base/blame.h"
#include "runtime/base/clock.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/slice_rule.h"

namespace minicpmv {
namespace {

absl::Span<const uint8_t> BytesOf(const Picture& picture) {
  return {reinterpret_cast<const uint8_t*>(picture.bytes.data()), picture.bytes.size()};
}

absl::StatusOr<SlicePlan> PlanOf(const Picture& picture, const SliceRule& rule, Exif exif) {
  ASSIGN_OR_RETURN(const ImageInfo info, ProbeImage(BytesOf(picture), exif));
  return PlanSlices({info.width, info.height}, rule);
}

absl::Time Now() { return Clock::Monotonic().Now(); }

}  // namespace

PictureRows::PictureRows(LocalModel& model, std::optional<int> max_slices, Exif exif)
    : model_(model), rule_(SliceRuleOf(model.spec())), exif_(exif) {
  rule_.max_slices = max_slices.value_or(rule_.max_slices);
}

absl::Status PictureRows::Plan(absl::Span<const Picture> pictures) {
  for (size_t i = plans_.size(); i < pictures.size(); ++i) {
    absl::StatusOr<SlicePlan> plan = PlanOf(pictures[i], rule_, exif_);
    if (!plan.ok()) return Blame(pictures[i].name, plan.status());
    plans_.push_back(*std::move(plan));
    rows_.emplace_back().done.resize(static_cast<size_t>(plans_.back().sub_images()));
  }
  return absl::OkStatus();
}

bool PictureRows::Holds(int image, int sub_image) const {
  return rows_[static_cast<size_t>(image)].done[static_cast<size_t>(sub_image)];
}

absl::StatusOr<const std::vector<Image>*> PictureRows::Open(absl::Span<const Picture> pictures,
                                                            int image, Bill& bill) {
  if (open_ == image) return &sub_images_;
  const absl::Time start = Now();
  const Picture& picture = pictures[static_cast<size_t>(image)];
  open_ = -1;
  absl::StatusOr<Image> pixels = DecodeImage(BytesOf(picture), exif_);
  if (!pixels.ok()) return Blame(picture.name, pixels.status());
  sub_images_ = CutSubImages(*pixels, plans_[static_cast<size_t>(image)]);
  open_ = image;
  bill.Add(BillStage::kMedia, start, Now());
  return &sub_images_;
}

absl::StatusOr<ConstTensorView> PictureRows::Encode(absl::Span<const Picture> pictures, int image,
                                                    int sub_image, Bill& bill) {
  const int64_t queries = model_.spec().resampler.queries;
  const int64_t hidden = model_.spec().language.hidden;
  const int64_t sub_images = plans_[static_cast<size_t>(image)].sub_images();
  const Shape all = {sub_images * queries, hidden};
  Rows& rows = rows_[static_cast<size_t>(image)];
  if (rows.buffer == nullptr) {
    const size_t bytes = static_cast<size_t>(all.elements()) * SizeOf(model_.row_dtype());
    ASSIGN_OR_RETURN(rows.buffer, model_.first_device().Allocate(bytes));
  }
  const TensorView out =
      TensorView(rows.buffer->data(), model_.row_dtype(), all).Rows(sub_image * queries, queries);
  if (Holds(image, sub_image)) return ConstTensorView(out);

  ASSIGN_OR_RETURN(const std::vector<Image>* const cut, Open(pictures, image, bill));
  const absl::Time start = Now();
  ASSIGN_OR_RETURN(VisionEncoder* const vision, model_.Vision());
  RETURN_IF_ERROR(
      vision->Encode({&(*cut)[static_cast<size_t>(sub_image)], 1}, out, [](int64_t) {}));
  rows.done[static_cast<size_t>(sub_image)] = true;
  bill.Add(BillStage::kEncode, start, Now());
  return ConstTensorView(out);
}

}  // namespace minicpmv
