#include "services/vision/pixel_arrivals.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

namespace minicpmv::vision {

int64_t PixelArrivals::BytesOf(const std::vector<SpanOfSlice>& spans, int patch_size) {
  int64_t patches = 0;
  for (const SpanOfSlice& span : spans) patches += int64_t{span.columns} * span.rows;
  return patches * patch_size * patch_size * 3;
}

absl::StatusOr<PixelArrivals> PixelArrivals::Create(const std::vector<SpanOfSlice>& spans,
                                                    int patch_size) {
  PixelArrivals arrivals;
  for (const SpanOfSlice& span : spans) {
    Slice slice;
    slice.width = int64_t{span.columns} * patch_size;
    slice.missing = int64_t{span.rows} * patch_size;
    slice.lines.resize(static_cast<size_t>(slice.missing), State::kMissing);
    slice.pixels = std::make_shared<Image>();
    slice.pixels->width = static_cast<int>(slice.width);
    slice.pixels->height = static_cast<int>(slice.missing);
    try {
      slice.pixels->rgb.resize(static_cast<size_t>(slice.missing * slice.width * 3));
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError("no memory for pixels that are to arrive");
    }
    arrivals.by_index_[span.index] = static_cast<int64_t>(arrivals.slices_.size());
    arrivals.slices_.push_back(std::move(slice));
  }
  arrivals.missing_ = static_cast<int64_t>(spans.size());
  return arrivals;
}

absl::StatusOr<std::vector<TensorView>> PixelArrivals::Place(const ParcelLabel& label) {
  if (label.kind != ParcelKind::kPixels || label.dtype != DType::kU8) {
    return absl::InvalidArgumentError("the landing is for pixels of 8 bits");
  }
  const auto found = by_index_.find(label.index);
  if (found == by_index_.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no pixels of span ", label.index, " belong here"));
  }
  Slice& slice = slices_[static_cast<size_t>(found->second)];
  const int64_t height = static_cast<int64_t>(slice.lines.size());
  if (label.width != slice.width || label.first < 0 || label.first >= height || label.count < 1 ||
      label.count > height - label.first) {
    return absl::InvalidArgumentError(
        absl::StrCat(label.count, " lines of ", label.width, " pixels from line ", label.first,
                     " on; span ", label.index, " is ", slice.width, " x ", height));
  }
  const int64_t line_bytes = slice.width * 3;
  if (label.bytes != static_cast<uint64_t>(label.count * line_bytes)) {
    return absl::InvalidArgumentError(absl::StrCat(
        label.count, " lines are ", label.count * line_bytes, " bytes, not ", label.bytes));
  }
  const auto first = slice.lines.begin() + label.first;
  if (std::any_of(first, first + label.count, [](State line) { return line != State::kMissing; })) {
    return absl::InvalidArgumentError(absl::StrCat("of lines ", label.first, " to ",
                                                   label.first + label.count - 1, " of span ",
                                                   label.index, " some are here or on their way"));
  }
  std::fill_n(first, label.count, State::kComing);
  return std::vector<TensorView>{TensorView(slice.pixels->rgb.data() + label.first * line_bytes,
                                            DType::kU8, Shape{label.count, line_bytes})};
}

PixelArrivals::Whole PixelArrivals::Landed(const ParcelLabel& label, bool is_here) {
  const int64_t span = by_index_.at(label.index);
  Slice& slice = slices_[static_cast<size_t>(span)];
  std::fill_n(slice.lines.begin() + label.first, label.count,
              is_here ? State::kHere : State::kMissing);
  if (!is_here) return {span, nullptr};
  slice.missing -= label.count;
  if (slice.missing > 0) return {span, nullptr};
  --missing_;
  return {span, std::move(slice.pixels)};
}

}  // namespace minicpmv::vision
