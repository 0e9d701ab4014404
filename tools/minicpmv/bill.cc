#include "tools/minicpmv/bill.h"

#include <algorithm>

namespace minicpmv {

absl::string_view NameOf(BillStage stage) {
  switch (stage) {
    case BillStage::kMedia:
      return "media";
    case BillStage::kEncode:
      return "encode";
    case BillStage::kTransfer:
      return "transfer";
    case BillStage::kQueue:
      return "queue";
    case BillStage::kPrefill:
      return "prefill";
    case BillStage::kDecode:
      return "decode";
  }
  return "";
}

absl::Duration Bill::Spent(BillStage stage) const {
  // Spans of the stages before, merged where they touch.
  std::vector<Span> before;
  for (const Span& span : spans_) {
    if (span.stage < stage) before.push_back(span);
  }
  std::sort(before.begin(), before.end(),
            [](const Span& a, const Span& b) { return a.start < b.start; });

  absl::Duration spent;
  for (const Span& span : spans_) {
    if (span.stage != stage) continue;
    absl::Time counted = span.start;
    for (const Span& other : before) {
      if (other.start >= span.end) break;
      spent += std::max(absl::ZeroDuration(), other.start - counted);
      counted = std::max(counted, other.end);
    }
    spent += std::max(absl::ZeroDuration(), span.end - counted);
  }
  return spent;
}

}  // namespace minicpmv
