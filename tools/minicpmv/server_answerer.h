#pragma once

#include <memory>
#include <mutex>

#include "tools/minicpmv/answerer.h"
#include "tools/minicpmv/reply_options.h"
#include "tools/sdk/cpp/client.h"
#include "tools/sdk/cpp/reply_stream.h"

namespace minicpmv {

// Has a server answer.
class ServerAnswerer final : public Answerer {
 public:
  ServerAnswerer(std::unique_ptr<sdk::Client> client, const ReplyOptions& options);

  // Brings the picture to the server, which then holds it.
  absl::Status CheckLastPicture(const Conversation& conversation) override;
  absl::StatusOr<Answer> Reply(const Conversation& conversation,
                               absl::FunctionRef<absl::Status(absl::string_view)> sink) override;
  void Cancel() override;
  void Forget() override {}

 private:
  const std::unique_ptr<sdk::Client> client_;
  const ReplyOptions options_;
  std::mutex mutex_;
  sdk::ReplyStream* running_ = nullptr;  // guarded by mutex_
};

// What is asked of a server. INVALID_ARGUMENT: a role that there is not, text that is not UTF-8.
absl::StatusOr<chat::v1::StreamReplyRequest> RequestOf(const Conversation& conversation,
                                                       const ReplyOptions& options);

}  // namespace minicpmv
