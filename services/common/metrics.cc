#include "services/common/metrics.h"

#include <prometheus/text_serializer.h>

#include <cmath>

#include "services/common/process_metrics.h"

namespace minicpmv {
namespace {

std::vector<double> Powers(double first, double factor, int count) {
  std::vector<double> bounds;
  for (int k = 0; k < count; ++k) bounds.push_back(first * std::pow(factor, k));
  return bounds;
}

}  // namespace

const std::vector<double> kFirstTokenBuckets = {.001, .005, .01, .02, .04, .06, .08, .1,
                                                .25,  .5,   .75, 1,   2.5, 5,   7.5, 10,
                                                20,   40,   80,  160, 640, 2560};
const std::vector<double> kTokenBuckets = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                           .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
const std::vector<double> kReplyBuckets = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                           30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const std::vector<double> kStageBuckets = Powers(1e-3, 1.62, 30);
const std::vector<double> kCountBuckets = Powers(1, 2, 13);

Metrics::Metrics() { process_ = AddProcessMetrics(*this); }

prometheus::Counter& Metrics::Counter(const std::string& name, const std::string& help,
                                      const Labels& labels) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add(labels);
}

prometheus::Gauge& Metrics::Gauge(const std::string& name, const std::string& help,
                                  const Labels& labels) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add(labels);
}

prometheus::Histogram& Metrics::Histogram(const std::string& name, const std::string& help,
                                          const std::vector<double>& buckets,
                                          const Labels& labels) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_).Add(labels,
                                                                                    buckets);
}

std::string Metrics::Text() {
  refreshes_.Tell();
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

}  // namespace minicpmv
