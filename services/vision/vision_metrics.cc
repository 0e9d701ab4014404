#include "services/vision/vision_metrics.h"

#include <string>

#include "absl/strings/ascii.h"
#include "services/common/status_proto.h"

namespace minicpmv::vision {
namespace {

constexpr char kMedia[] = "minicpmv_media_total";
constexpr char kMediaWords[] = "Media that came to be held, by format.";
constexpr char kRejects[] = "minicpmv_media_rejects_total";
constexpr char kRejectsWords[] = "Media that were not taken or could not be decoded, by reason.";

std::string ReasonLabel(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument: {
      const std::string reason = absl::AsciiStrToLower(ReasonOf(status));
      return reason.empty() ? "request" : reason;
    }
    case absl::StatusCode::kDataLoss:
      return "bytes";
    case absl::StatusCode::kResourceExhausted:
      return "no_room";
    default:
      return "other";
  }
}

}  // namespace

VisionMetrics::VisionMetrics(Metrics& metrics)
    : media_decode_seconds(metrics.Histogram("minicpmv_media_decode_seconds",
                                             "Decoding, resizing and cutting one medium.",
                                             kStageBuckets)),
      slices(metrics.Counter("minicpmv_slices_total", "Slices that were encoded.")),
      batch_slices(metrics.Histogram("minicpmv_vision_batch_slices",
                                     "Slices that were encoded together.", kCountBuckets)),
      step_seconds(metrics.Histogram("minicpmv_vision_step_seconds",
                                     "Encoding one batch of slices.", kStageBuckets)),
      rows_queries(metrics.Counter("minicpmv_rows_cache_queries_total",
                                   "Slices whose rows were looked for.")),
      rows_hits(metrics.Counter("minicpmv_rows_cache_hits_total",
                                "Slices whose rows were found and not made.")),
      rows_bytes(metrics.Gauge("minicpmv_rows_cache_bytes", "Bytes of rows that are kept.")),
      metrics_(metrics) {
  for (const char* format : {"jpeg", "png", "webp"}) {
    metrics.Counter(kMedia, kMediaWords, {{"format", format}});
  }
  for (const char* reason : {"no_medium", "unreadable_format", "damaged_medium", "too_large",
                             "request", "bytes", "no_room", "other"}) {
    metrics.Counter(kRejects, kRejectsWords, {{"reason", reason}});
  }
}

void VisionMetrics::CountMedium(absl::string_view format) {
  metrics_.Counter(kMedia, kMediaWords, {{"format", std::string(format)}}).Increment();
}

void VisionMetrics::CountReject(const absl::Status& status) {
  metrics_.Counter(kRejects, kRejectsWords, {{"reason", ReasonLabel(status)}}).Increment();
}

}  // namespace minicpmv::vision
