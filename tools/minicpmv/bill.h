#pragma once

#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace minicpmv {

// Where the time of one reply went.
enum class BillStage { kMedia, kEncode, kTransfer, kQueue, kPrefill, kDecode };
inline constexpr BillStage kBillStages[] = {BillStage::kQueue,   BillStage::kMedia,
                                            BillStage::kEncode,  BillStage::kTransfer,
                                            BillStage::kPrefill, BillStage::kDecode};
absl::string_view NameOf(BillStage stage);

// Times are one clock's. For one thread.
class Bill {
 public:
  struct Span {
    BillStage stage;
    absl::Time start, end;
  };

  void Add(BillStage stage, absl::Time start, absl::Time end) {
    spans_.push_back({stage, start, end});
  }
  void Begin(absl::Time now) { begin_ = end_ = now; }
  void End(absl::Time now) { end_ = now; }

  // Spans of one stage never overlap; those of different stages may, as a prompt is computed while
  // its later pictures are still being encoded.
  const std::vector<Span>& spans() const { return spans_; }
  // Of the stage's spans, less the time that a stage before it (in the order of the enumeration)
  // worked as well: nothing is counted twice, so that the stages together never exceed the total.
  absl::Duration Spent(BillStage stage) const;
  absl::Time begin() const { return begin_; }
  absl::Time end() const { return end_; }
  absl::Duration total() const { return end_ - begin_; }

 private:
  std::vector<Span> spans_;
  absl::Time begin_, end_;
};

}  // namespace minicpmv
