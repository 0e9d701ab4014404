#include "runtime/link/parcel.h"

#include <iterator>
#include <limits>

#include "absl/strings/str_cat.h"

namespace minicpmv {
namespace {

absl::Status CheckNumber(absl::string_view name, int64_t number, int64_t largest) {
  if (number >= 0 && number <= largest) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the label's ", name, " is ", number, ", not in [0, ", largest, "]"));
}

}  // namespace

absl::Status CheckLabel(const ParcelLabel& label) {
  constexpr int64_t kLargest = std::numeric_limits<uint32_t>::max();
  const bool is_step = label.kind == ParcelKind::kActivations;
  absl::Status status =
      CheckNumber("index", label.index, is_step ? std::numeric_limits<int64_t>::max() : kLargest);
  status.Update(CheckNumber("first", label.first, kLargest));
  status.Update(CheckNumber("count", label.count, kLargest));
  status.Update(CheckNumber("width", label.width, kLargest));
  if (label.bytes == 0 || label.bytes > uint64_t{kMaxParcelBytes}) {
    status.Update(absl::InvalidArgumentError(absl::StrCat(
        "the label's size is ", label.bytes, ", not in [1, ", kMaxParcelBytes, "] bytes")));
  }
  return status;
}

std::vector<WaitingParcel> TakeFor(const LandingName& landing, std::deque<WaitingParcel>& line) {
  const auto taken = std::stable_partition(
      line.begin(), line.end(),
      [&](const WaitingParcel& waiting) { return waiting.parcel.label.landing != landing; });
  std::vector<WaitingParcel> result(std::make_move_iterator(taken),
                                    std::make_move_iterator(line.end()));
  line.erase(taken, line.end());
  return result;
}

}  // namespace minicpmv
