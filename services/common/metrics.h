#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "services/common/listeners.h"

namespace minicpmv {

// Seconds. Upper bounds of the histograms' buckets.
extern const std::vector<double> kFirstTokenBuckets;  // time to first token
extern const std::vector<double> kTokenBuckets;       // between tokens, time per output token
extern const std::vector<double> kReplyBuckets;       // end to end
extern const std::vector<double> kStageBuckets;       // small stages: 1 ms * 1.62^k
// Things that are counted, as sequences of a step: 1, 2, 4 ... 4096.
extern const std::vector<double> kCountBuckets;

// What a process tells a scraper. Names start with "minicpmv_"; asking again for a name and labels
// gives the same series. A series exists, with zero, from the moment it was asked for: whoever
// counts asks for all of its series when it is made. References live as long as this. Thread-safe.
class Metrics {
 public:
  using Labels = std::map<std::string, std::string>;

  // process_* and minicpmv_build_info are there from the start.
  Metrics();

  prometheus::Counter& Counter(const std::string& name, const std::string& help,
                               const Labels& labels = {});
  prometheus::Gauge& Gauge(const std::string& name, const std::string& help,
                           const Labels& labels = {});
  prometheus::Histogram& Histogram(const std::string& name, const std::string& help,
                                   const std::vector<double>& buckets, const Labels& labels = {});

  // What a gauge shows is looked up when somebody scrapes: called before each text by the scraping
  // thread.
  Listeners<>& before_each_text() { return refreshes_; }

  // The Prometheus text format, 0.0.4.
  std::string Text();

 private:
  prometheus::Registry registry_;
  Listeners<> refreshes_;
  std::unique_ptr<Listeners<>::Entry> process_;
};

}  // namespace minicpmv
