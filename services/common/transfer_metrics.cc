#include "services/common/transfer_metrics.h"

#include <string>

namespace minicpmv {
namespace {

// In the order of the enums.
constexpr std::array<const char*, 2> kLinks = {"local", "grpc"};
constexpr std::array<const char*, 4> kKinds = {"pixels", "rows", "pages", "activations"};
constexpr std::array<const char*, 6> kReasons = {"timeout",   "abort", "checksum",
                                                 "peer_gone", "epoch", "refused"};
constexpr char kStrips[] = "minicpmv_strips";
constexpr char kStripsHelp[] = "Strips of the rings of this process's links";

}  // namespace

TransferMetrics::TransferMetrics(Metrics& metrics)
    : rebuilds_(metrics.Counter("minicpmv_link_rebuilds_total",
                                "How often a link came to life again after it had broken")),
      held_(metrics.Gauge(kStrips, kStripsHelp, {{"state", "held"}})),
      free_(metrics.Gauge(kStrips, kStripsHelp, {{"state", "free"}})) {
  for (size_t link = 0; link < kLinks.size(); ++link) {
    for (size_t kind = 0; kind < kKinds.size(); ++kind) {
      const Metrics::Labels labels = {{"kind", kKinds[kind]}, {"link", kLinks[link]}};
      landed_[link][kind] = {
          &metrics.Counter("minicpmv_transfer_bytes_total", "Bytes of parcels that have landed",
                           labels),
          &metrics.Histogram("minicpmv_transfer_seconds",
                             "From a parcel's label to the answer that it has landed",
                             kStageBuckets, labels)};
    }
  }
  for (size_t reason = 0; reason < kReasons.size(); ++reason) {
    failures_[reason] =
        &metrics.Counter("minicpmv_transfer_failures_total", "Parcels that did not land",
                         {{"reason", kReasons[reason]}});
  }
}

void TransferMetrics::OnLanded(absl::string_view link, const ParcelLabel& label,
                               absl::Duration taken) {
  const Series& series = landed_[link == kLinks[0] ? 0 : 1][static_cast<size_t>(label.kind)];
  series.bytes->Increment(static_cast<double>(label.bytes));
  series.seconds->Observe(absl::ToDoubleSeconds(taken));
}

void TransferMetrics::OnFailed(LinkFailure reason) {
  failures_[static_cast<size_t>(reason)]->Increment();
}

void TransferMetrics::OnRebuilt() { rebuilds_.Increment(); }

void TransferMetrics::OnStrips(int64_t held, int64_t free) {
  held_.Increment(static_cast<double>(held));
  free_.Increment(static_cast<double>(free));
}

}  // namespace minicpmv
