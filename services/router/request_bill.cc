#include "services/router/request_bill.h"

#include <algorithm>
#include <optional>

#include "services/common/durations.h"

namespace minicpmv::router {
namespace {

using common::v1::Work;

// A year of one call: a worker that says more is mistaken.
constexpr absl::Duration kMost = absl::Hours(24 * 365);

std::optional<absl::Duration> Read(const google::protobuf::Duration& proto) {
  const absl::StatusOr<absl::Duration> duration = DurationFrom(proto);
  if (!duration.ok() || *duration > kMost) return std::nullopt;
  return *duration;
}

absl::string_view NameOf(Work work) {
  switch (work) {
    case common::v1::WORK_QUEUE:
      return "queue";
    case common::v1::WORK_MEDIA:
      return "media";
    case common::v1::WORK_ENCODE:
      return "encode";
    case common::v1::WORK_TRANSFER:
      return "transfer";
    case common::v1::WORK_PREFILL:
      return "prefill";
    case common::v1::WORK_DECODE:
      return "decode";
    default:
      return "";
  }
}

google::protobuf::Duration* FieldOf(Work work, chat::v1::Bill& bill) {
  switch (work) {
    case common::v1::WORK_QUEUE:
      return bill.mutable_queue();
    case common::v1::WORK_MEDIA:
      return bill.mutable_media();
    case common::v1::WORK_ENCODE:
      return bill.mutable_encode();
    case common::v1::WORK_TRANSFER:
      return bill.mutable_transfer();
    case common::v1::WORK_PREFILL:
      return bill.mutable_prefill();
    default:
      return bill.mutable_decode();
  }
}

}  // namespace

void RequestBill::Add(absl::Time opened, const common::v1::Bill& bill) {
  const absl::Duration offset = opened - arrival_;
  for (const common::v1::BillLine& line : bill.lines()) {
    const auto start = Read(line.start()), end = Read(line.end()), busy = Read(line.busy());
    if (NameOf(line.work()).empty() || !start || !end || !busy || *end < *start) continue;
    const absl::Duration length = *end - *start;
    lines_.push_back({line.work(), offset + *start, offset + *end,
                      line.has_busy() ? std::min(*busy, length) : length});
  }
  cached_slices_ += bill.cached_slices();
  sent_bytes_ += bill.sent_bytes();
}

void RequestBill::Add(Work work, absl::Time start, absl::Time end) {
  lines_.push_back({work, start - arrival_, end - arrival_, end - start});
}

void RequestBill::AddStep(absl::Time opened, const google::protobuf::Duration& start,
                          const google::protobuf::Duration& end) {
  const auto from = Read(start), to = Read(end);
  if (!from || !to || *to < *from) return;
  const absl::Duration offset = opened - arrival_;
  if (steps_.busy == absl::ZeroDuration()) {
    steps_ = {common::v1::WORK_DECODE, offset + *from, offset + *to, *to - *from};
    return;
  }
  steps_.end = std::max(steps_.end, offset + *to);
  steps_.busy += *to - *from;
}

void RequestBill::CloseSteps(bool has_bill) {
  if (!has_bill && steps_.busy > absl::ZeroDuration()) lines_.push_back(steps_);
  steps_ = Line();
}

chat::v1::Bill RequestBill::At(absl::Time end) const {
  chat::v1::Bill bill;
  std::map<Work, absl::Duration> sums;
  for (const Work work :
       {common::v1::WORK_QUEUE, common::v1::WORK_MEDIA, common::v1::WORK_ENCODE,
        common::v1::WORK_TRANSFER, common::v1::WORK_PREFILL, common::v1::WORK_DECODE}) {
    sums[work] = absl::ZeroDuration();
  }
  for (const Line& line : lines_) {
    sums[line.work] += line.busy;
    chat::v1::StageTime& stage = *bill.add_stages();
    stage.set_stage(std::string(NameOf(line.work)));
    *stage.mutable_start() = ToProto(line.start);
    *stage.mutable_end() = ToProto(line.end);
  }
  for (const auto& [work, sum] : sums) *FieldOf(work, bill) = ToProto(sum);
  *bill.mutable_total() = ToProto(end - arrival_);
  bill.set_slices(slices_);
  bill.set_cached_slices(cached_slices_);
  bill.set_transferred_bytes(sent_bytes_);
  bill.set_failovers(failovers_);
  return bill;
}

}  // namespace minicpmv::router
