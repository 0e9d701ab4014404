#include "services/common/transfer_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

TEST(TransferMetricsTest, ShowsEverySeriesWithZeroFromTheStart) {
  Metrics metrics;
  const TransferMetrics transfer(metrics);
  const std::string text = metrics.Text();
  for (const char* line : {"minicpmv_transfer_bytes_total{kind=\"pages\",link=\"grpc\"} 0",
                           "minicpmv_transfer_bytes_total{kind=\"pixels\",link=\"local\"} 0",
                           "minicpmv_transfer_seconds_count{kind=\"rows\",link=\"grpc\"} 0",
                           "minicpmv_transfer_failures_total{reason=\"timeout\"} 0",
                           "minicpmv_transfer_failures_total{reason=\"peer_gone\"} 0",
                           "minicpmv_link_rebuilds_total 0", "minicpmv_strips{state=\"held\"} 0",
                           "minicpmv_strips{state=\"free\"} 0"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(TransferMetricsTest, CountsWhatLinksTell) {
  Metrics metrics;
  TransferMetrics transfer(metrics);
  ParcelLabel label;
  label.kind = ParcelKind::kPages;
  label.bytes = 1000;
  transfer.OnLanded("grpc", label, absl::Milliseconds(5));
  transfer.OnLanded("grpc", label, absl::Milliseconds(5));
  label.kind = ParcelKind::kRows;
  transfer.OnLanded("local", label, absl::Milliseconds(1));
  transfer.OnFailed(LinkFailure::kEpoch);
  transfer.OnFailed(LinkFailure::kRefused);
  transfer.OnRebuilt();
  transfer.OnStrips(0, 16);
  transfer.OnStrips(3, -3);
  transfer.OnStrips(-1, 1);
  const std::string text = metrics.Text();
  for (const char* line :
       {"minicpmv_transfer_bytes_total{kind=\"pages\",link=\"grpc\"} 2000",
        "minicpmv_transfer_bytes_total{kind=\"rows\",link=\"local\"} 1000",
        "minicpmv_transfer_seconds_count{kind=\"pages\",link=\"grpc\"} 2",
        "minicpmv_transfer_failures_total{reason=\"epoch\"} 1",
        "minicpmv_transfer_failures_total{reason=\"refused\"} 1",
        "minicpmv_transfer_failures_total{reason=\"abort\"} 0", "minicpmv_link_rebuilds_total 1",
        "minicpmv_strips{state=\"held\"} 2", "minicpmv_strips{state=\"free\"} 14"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

}  // namespace
}  // namespace minicpmv
