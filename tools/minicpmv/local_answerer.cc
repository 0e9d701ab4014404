#include "tools/minicpmv/local_answerer.h"

#include <string>
#include <utility>

#include "absl/time/time.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {

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
