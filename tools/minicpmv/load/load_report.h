#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tools/minicpmv/load/load_figures.h"

namespace minicpmv {

// What a load has shown.
struct LoadReport {
  double offered_rate = 0;  // conversations a second
  absl::Duration duration;  // until the last reply's end
  Slo slo;
  std::vector<RequestRecord> records;
};

// {"offered_rate", "seconds", "requests", "completed", "refused", "failed", "resumptions",
// "errors": {code: n}, "output_tokens_per_second", "goodput", "ttft_ms", "itl_ms", "tpot_ms",
// "e2e_ms": each {"p50", "p90", "p99", "max"} or null, "by_class": {"text"|"image"|"images": the
// same from "requests" to "e2e_ms"}, "series": [{"second", ...}]} and a line feed.
std::string JsonOf(const LoadReport& report);
// The same for people, without the series.
std::string TableOf(const LoadReport& report);

}  // namespace minicpmv
