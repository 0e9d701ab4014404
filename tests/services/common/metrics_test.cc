#include "services/common/metrics.h"

#include <gtest/gtest.h>

#include <string>

namespace minicpmv {
namespace {

bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(MetricsTest, ShowsSeriesAtZeroFromTheStart) {
  Metrics metrics;
  metrics.Counter("minicpmv_things_total", "Things", {{"kind", "a"}});
  metrics.Gauge("minicpmv_level", "Level");
  metrics.Histogram("minicpmv_wait_seconds", "Wait", kStageBuckets);
  const std::string text = metrics.Text();
  EXPECT_TRUE(Has(text, "# TYPE minicpmv_things_total counter")) << text;
  EXPECT_TRUE(Has(text, "minicpmv_things_total{kind=\"a\"} 0\n"));
  EXPECT_TRUE(Has(text, "minicpmv_level 0\n"));
  EXPECT_TRUE(Has(text, "minicpmv_wait_seconds_count 0\n"));
  EXPECT_TRUE(Has(text, "minicpmv_wait_seconds_bucket{le=\"+Inf\"} 0\n"));
}

TEST(MetricsTest, GivesTheSameSeriesForTheSameLabels) {
  Metrics metrics;
  prometheus::Counter& one = metrics.Counter("minicpmv_things_total", "Things", {{"kind", "a"}});
  prometheus::Counter& two = metrics.Counter("minicpmv_things_total", "Things", {{"kind", "b"}});
  EXPECT_EQ(&one, &metrics.Counter("minicpmv_things_total", "Things", {{"kind", "a"}}));
  EXPECT_NE(&one, &two);
  one.Increment();
  EXPECT_TRUE(Has(metrics.Text(), "minicpmv_things_total{kind=\"a\"} 1\n"));
}

TEST(MetricsTest, LooksUpGaugesBeforeEachText) {
  Metrics metrics;
  prometheus::Gauge& gauge = metrics.Gauge("minicpmv_level", "Level");
  int looked = 0;
  auto entry = metrics.before_each_text().Add([&] { gauge.Set(++looked); });
  EXPECT_TRUE(Has(metrics.Text(), "minicpmv_level 1\n"));
  EXPECT_TRUE(Has(metrics.Text(), "minicpmv_level 2\n"));
  entry.reset();
  EXPECT_TRUE(Has(metrics.Text(), "minicpmv_level 2\n"));
}

TEST(MetricsTest, TellsOfTheProcess) {
  Metrics metrics;
  const std::string text = metrics.Text();
  for (const char* name : {"process_cpu_seconds_total", "process_resident_memory_bytes",
                           "process_virtual_memory_bytes", "process_open_fds", "process_max_fds",
                           "process_start_time_seconds", "minicpmv_build_info{"}) {
    EXPECT_TRUE(Has(text, std::string("\n") + name)) << name;
  }
}

TEST(MetricsTest, HasBucketsThatRise) {
  for (const auto* buckets :
       {&kFirstTokenBuckets, &kTokenBuckets, &kReplyBuckets, &kStageBuckets, &kCountBuckets}) {
    for (size_t i = 1; i < buckets->size(); ++i) EXPECT_LT((*buckets)[i - 1], (*buckets)[i]);
  }
  EXPECT_EQ(kFirstTokenBuckets.size(), 22u);
  EXPECT_EQ(kTokenBuckets.size(), 19u);
  EXPECT_EQ(kReplyBuckets.size(), 21u);
  EXPECT_EQ(kStageBuckets.size(), 30u);
}

}  // namespace
}  // namespace minicpmv
