#include "tools/minicpmv/load/load_figures.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace minicpmv {
namespace {

int64_t TokensOf(const RequestRecord& record) {
  int64_t tokens = 0;
  for (const TokenEvent& event : record.events) tokens += event.tokens;
  return tokens;
}

absl::Duration FirstToken(const RequestRecord& record) {
  return record.events.front().at - record.due;
}

std::optional<absl::Duration> TimePerToken(const RequestRecord& record) {
  const int64_t tokens = TokensOf(record);
  if (tokens < 2) return std::nullopt;
  return (record.end - record.due - FirstToken(record)) / (tokens - 1);
}

bool IsGood(const RequestRecord& record, const Slo& slo) {
  return record.completed() && !record.events.empty() && FirstToken(record) <= slo.ttft &&
         TimePerToken(record).value_or(absl::ZeroDuration()) <= slo.itl;
}

size_t SecondOf(absl::Duration time) {
  return static_cast<size_t>(std::max<int64_t>(0, absl::ToInt64Seconds(time)));
}

}  // namespace

std::optional<Percentiles> PercentilesOf(std::vector<absl::Duration> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double rank = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(rank);
    const size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (values[above] - values[below]) * (rank - static_cast<double>(below));
  };
  return Percentiles{at(.5), at(.9), at(.99), values.back()};
}

LoadFigures FiguresOf(absl::Span<const RequestRecord> records, absl::Duration duration,
                      const Slo& slo) {
  LoadFigures figures;
  std::vector<absl::Duration> ttft, itl, tpot, e2e;
  int64_t tokens = 0, good = 0;
  for (const RequestRecord& record : records) {
    ++figures.requests;
    figures.completed += record.completed();
    figures.refused += record.refused();
    figures.failed += record.failed();
    figures.resumptions += record.resumptions;
    tokens += TokensOf(record);
    if (!record.completed()) {
      ++figures.errors[absl::StatusCodeToString(record.code)];
      continue;
    }
    good += IsGood(record, slo);
    e2e.push_back(record.end - record.due);
    if (record.events.empty()) continue;
    ttft.push_back(FirstToken(record));
    for (size_t i = 1; i < record.events.size(); ++i) {
      itl.push_back(record.events[i].at - record.events[i - 1].at);
    }
    if (const auto time = TimePerToken(record); time.has_value()) tpot.push_back(*time);
  }
  const double seconds = absl::ToDoubleSeconds(duration);
  if (seconds > 0) {
    figures.output_tokens_per_second = static_cast<double>(tokens) / seconds;
    figures.goodput = static_cast<double>(good) / seconds;
  }
  figures.ttft = PercentilesOf(std::move(ttft));
  figures.itl = PercentilesOf(std::move(itl));
  figures.tpot = PercentilesOf(std::move(tpot));
  figures.e2e = PercentilesOf(std::move(e2e));
  return figures;
}

std::vector<RequestRecord> RecordsOf(absl::Span<const RequestRecord> records,
                                     LoadClass load_class) {
  std::vector<RequestRecord> found;
  std::copy_if(records.begin(), records.end(), std::back_inserter(found),
               [&](const RequestRecord& record) { return record.load_class == load_class; });
  return found;
}

Refusals RefusalsOf(absl::Span<const RequestRecord> records) {
  Refusals refusals;
  std::vector<absl::Duration> latency;
  for (const RequestRecord& record : records) {
    if (!record.refused()) continue;
    latency.push_back(record.end - record.sent);
    refusals.with_retry_delay += record.has_retry_delay;
  }
  refusals.latency = PercentilesOf(std::move(latency));
  return refusals;
}

std::vector<LoadSecond> SeriesOf(absl::Span<const RequestRecord> records) {
  if (records.empty()) return {};
  absl::Duration end;
  for (const RequestRecord& record : records) end = std::max(end, record.end);
  std::vector<LoadSecond> series(SecondOf(end) + 1);
  std::vector<std::vector<absl::Duration>> ttft(series.size()), itl(series.size()),
      refusal(series.size());
  // Who comes and goes; summed up they are who is there.
  std::vector<int64_t> waiting(series.size()), open(series.size());
  for (const RequestRecord& record : records) {
    const size_t due = SecondOf(record.due), sent = SecondOf(record.sent),
                 ended = SecondOf(record.end);
    ++series[due].due;
    ++series[sent].sent;
    ++waiting[due];
    --waiting[sent];
    ++open[sent];
    --open[ended];
    series[ended].completed += record.completed();
    series[ended].refused += record.refused();
    series[ended].failed += record.failed();
    if (record.refused()) refusal[ended].push_back(record.end - record.sent);
    for (size_t i = 0; i < record.events.size(); ++i) {
      const TokenEvent& event = record.events[i];
      const size_t second = SecondOf(event.at);
      series[second].output_tokens += event.tokens;
      if (i == 0) {
        ttft[second].push_back(FirstToken(record));
      } else {
        itl[second].push_back(event.at - record.events[i - 1].at);
      }
    }
  }
  int64_t waiting_now = 0, open_now = 0;
  for (size_t second = 0; second < series.size(); ++second) {
    series[second].waiting = waiting_now += waiting[second];
    series[second].open = open_now += open[second];
    series[second].ttft = PercentilesOf(std::move(ttft[second]));
    series[second].itl = PercentilesOf(std::move(itl[second]));
    series[second].refusal = PercentilesOf(std::move(refusal[second]));
  }
  return series;
}

}  // namespace minicpmv
