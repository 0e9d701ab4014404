#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "tools/minicpmv/load/request_record.h"

namespace minicpmv {

// Of durations.
struct Percentiles {
  absl::Duration p50, p90, p99, max;
};
// Between two neighbours in rank they are interpolated. Nothing where there are no values.
std::optional<Percentiles> PercentilesOf(std::vector<absl::Duration> values);

// What a reply has to keep to be counted as good.
struct Slo {
  absl::Duration ttft = absl::InfiniteDuration();
  absl::Duration itl = absl::InfiniteDuration();  // of the reply's mean, its TPOT
};

// Latencies are those of completed requests.
struct LoadFigures {
  int64_t requests = 0, completed = 0, refused = 0, failed = 0;
  int64_t resumptions = 0;                // of all requests
  std::map<std::string, int64_t> errors;  // by code, refusals among them
  double output_tokens_per_second = 0;
  double goodput = 0;  // requests a second that keep both values of the SLO

  // From a request's due time to its first token.
  std::optional<Percentiles> ttft;
  // Between successive events with tokens.
  std::optional<Percentiles> itl;
  // Of each reply (end-to-end - TTFT) / (tokens - 1).
  std::optional<Percentiles> tpot;
  // From a request's due time to the reply's end.
  std::optional<Percentiles> e2e;
};
LoadFigures FiguresOf(absl::Span<const RequestRecord> records, absl::Duration duration,
                      const Slo& slo);
// The requests of one class.
std::vector<RequestRecord> RecordsOf(absl::Span<const RequestRecord> records, LoadClass load_class);

// How long refusals took, and how many said when to come again.
struct Refusals {
  std::optional<Percentiles> latency;
  int64_t with_retry_delay = 0;
};
Refusals RefusalsOf(absl::Span<const RequestRecord> records);

// What happened within one second.
struct LoadSecond {
  int64_t due = 0, sent = 0, completed = 0, refused = 0, failed = 0, output_tokens = 0;
  // At the second's end.
  int64_t waiting = 0, open = 0;
  std::optional<Percentiles> ttft, itl;  // of the tokens that came
  std::optional<Percentiles> refusal;    // latency of refusals
};
// From the start until the last request has ended.
std::vector<LoadSecond> SeriesOf(absl::Span<const RequestRecord> records);

}  // namespace minicpmv
