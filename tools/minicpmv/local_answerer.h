#pragma once

#include <memory>
#include <optional>

#include "tools/minicpmv/answerer.h"
#include "tools/minicpmv/local_reply.h"
#include "tools/minicpmv/picture_rows.h"
#include "tools/minicpmv/reply_options.h"

namespace minicpmv {

// Answers in this process.
class LocalAnswerer final : public Answerer {
 public:
  LocalAnswerer(std::unique_ptr<LocalModel> model, const ReplyOptions& options);

  absl::Status CheckLastPicture(const Conversation& conversation) override;
  absl::StatusOr<Answer> Reply(const Conversation& conversation,
                               absl::FunctionRef<absl::Status(absl::string_view)> sink) override;
  void Cancel() override { reply_.Cancel(); }
  void Forget() override;

 private:
  const std::unique_ptr<LocalModel> model_;
  const ReplyOptions options_;
  LocalReply reply_;
  std::optional<PictureRows> rows_;  // made once for each picture of a conversation
};

}  // namespace minicpmv
