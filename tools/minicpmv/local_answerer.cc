#include "tools/minicpmv/local_answerer.h"

#include <string>
#include <utility>

#include "absl/time/time.h"
#include "runtime/base/status_macros.h"
#include "runtime/base/tracing.h"

namespace minicpmv {
namespace {

TraceRow RowOf(BillStage stage) {
  switch (stage) {
    case BillStage::kQueue:
      return TraceRow::kStage;
    case BillStage::kMedia:
      return TraceRow::kMedia;
    case BillStage::kEncode:
      return TraceRow::kEncode;
    case BillStage::kTransfer:
      return TraceRow::kTransfer;
    case BillStage::kPrefill:
      return TraceRow::kPrefill;
    case BillStage::kDecode:
      return TraceRow::kDecode;
  }
  return TraceRow::kStage;
}

void TraceBill(const Bill& bill, int64_t tokens) {
  const TracedWork work = {"", NewTrace()};
  TraceWork(TraceRow::kRequest, "reply", bill.begin(), bill.end(), work, {{"tokens", tokens}});
  for (const Bill::Span& span : bill.spans()) {
    TracePart(RowOf(span.stage), NameOf(span.stage), span.start, span.end, work);
  }
}

}  // namespace

LocalAnswerer::LocalAnswerer(std::unique_ptr<LocalModel> model, const ReplyOptions& options)
    : model_(std::move(model)), options_(options), reply_(*model_) {
  Forget();
}

void LocalAnswerer::Forget() { rows_.emplace(*model_, options_.max_slices, options_.exif); }

absl::Status LocalAnswerer::CheckLastPicture(const Conversation& conversation) {
  return rows_->Plan(conversation.pictures);
}

absl::StatusOr<Answer> LocalAnswerer::Reply(
    const Conversation& conversation, absl::FunctionRef<absl::Status(absl::string_view)> sink) {
  ASSIGN_OR_RETURN(minicpmv::Reply reply, reply_.Run(conversation, options_, *rows_, sink));
  if (IsTracing()) TraceBill(reply.bill, static_cast<int64_t>(reply.tokens.size()));
  Answer answer;
  answer.text = std::move(reply.text);
  answer.tokens.assign(reply.tokens.begin(), reply.tokens.end());
  answer.was_cut = reply.end == ReplyEnd::kLength;
  answer.prompt_tokens = reply.prompt_tokens;
  for (size_t i = 0; i < answer.seconds.size(); ++i) {
    answer.seconds[i] = absl::ToDoubleSeconds(reply.bill.Spent(kBillStages[i]));
  }
  answer.total_seconds = absl::ToDoubleSeconds(reply.bill.total());
  for (const Bill::Span& span : reply.bill.spans()) {
    answer.spans.push_back({std::string(NameOf(span.stage)),
                            absl::ToDoubleSeconds(span.start - reply.bill.begin()),
                            absl::ToDoubleSeconds(span.end - reply.bill.begin())});
  }
  answer.seed = reply.seed;
  return answer;
}

}  // namespace minicpmv
