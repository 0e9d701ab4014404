#include "services/prefill/rows_arrivals.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace minicpmv::prefill {

absl::StatusOr<RowsArrivals> RowsArrivals::Create(Device& device,
                                                  const std::vector<SequenceRequest::Span>& spans,
                                                  int64_t held_tokens, int64_t hidden,
                                                  DType dtype) {
  RowsArrivals arrivals;
  arrivals.dtype_ = dtype;
  arrivals.spans_.resize(spans.size());
  const auto is_needed = [&](const SequenceRequest::Span& span) {
    return span.first + span.count > held_tokens;
  };
  for (const SequenceRequest::Span& span : spans) {
    if (is_needed(span)) arrivals.awaited_rows_ += span.count;
  }
  if (arrivals.awaited_rows_ == 0) return arrivals;

  const Shape shape = {arrivals.awaited_rows_, hidden};
  ASSIGN_OR_RETURN(arrivals.buffer_,
                   device.Allocate(static_cast<size_t>(shape.elements()) * SizeOf(dtype)));
  const TensorView all(arrivals.buffer_->data(), dtype, shape);
  int64_t row = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    if (!is_needed(spans[i])) continue;
    Span& span = arrivals.spans_[i];
    span.rows = all.Rows(row, spans[i].count);
    span.states.resize(static_cast<size_t>(spans[i].count), State::kMissing);
    span.missing = spans[i].count;
    row += spans[i].count;
  }
  return arrivals;
}

absl::StatusOr<std::vector<TensorView>> RowsArrivals::Place(const ParcelLabel& label) {
  if (label.kind != ParcelKind::kRows) {
    return absl::InvalidArgumentError("the landing is for rows");
  }
  if (label.dtype != dtype_) {
    return absl::InvalidArgumentError(
        absl::StrCat("the rows are ", NameOf(label.dtype), " where ", NameOf(dtype_), " belongs"));
  }
  if (label.index < 0 || label.index >= static_cast<int64_t>(spans_.size())) {
    return absl::InvalidArgumentError(absl::StrCat("span ", label.index, " of ", spans_.size()));
  }
  Span& span = spans_[label.index];
  const int64_t rows = static_cast<int64_t>(span.states.size());
  if (rows == 0) {
    return absl::InvalidArgumentError(absl::StrCat("span ", label.index, " needs no rows"));
  }
  if (label.first < 0 || label.first >= rows || label.count < 1 ||
      label.count > rows - label.first) {
    return absl::InvalidArgumentError(absl::StrCat(label.count, " rows from ", label.first,
                                                   " of the ", rows, " of span ", label.index));
  }
  const TensorView place = span.rows.Rows(label.first, label.count);
  if (label.bytes != place.bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat(label.count, " rows are ", place.bytes(), " bytes, not ", label.bytes));
  }
  const auto first = span.states.begin() + label.first;
  if (std::any_of(first, first + label.count,
                  [](State state) { return state != State::kMissing; })) {
    return absl::InvalidArgumentError(
        absl::StrCat("of rows ", label.first, " to ", label.first + label.count - 1, " of span ",
                     label.index, " some are here or on their way already"));
  }
  std::fill_n(first, label.count, State::kComing);
  return std::vector<TensorView>{place};
}

std::optional<ConstTensorView> RowsArrivals::Landed(const ParcelLabel& label, bool is_here) {
  Span& span = spans_[label.index];
  std::fill_n(span.states.begin() + label.first, label.count,
              is_here ? State::kHere : State::kMissing);
  if (!is_here) return std::nullopt;
  span.missing -= label.count;
  landed_rows_ += label.count;
  if (span.missing > 0) return std::nullopt;
  ++landed_spans_;
  return ConstTensorView(span.rows);
}

}  // namespace minicpmv::prefill
