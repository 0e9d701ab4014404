#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "runtime/base/trace_file.h"
#include "services/gateway/caller.h"
#include "services/gateway/chat_request.h"
#include "services/gateway/completion_json.h"
#include "services/gateway/exchange.h"
#include "services/gateway/ground.h"
#include "services/gateway/remote_pictures.h"
#include "services/gateway/reply_call.h"

namespace minicpmv::gateway {

// POST /v1/chat/completions.
//
// A stream's header leaves with its first text: what goes wrong before is an answer with a status
// of its own, and what goes wrong after it an event.
class ChatExchange final : public Exchange, public std::enable_shared_from_this<ChatExchange> {
 public:
  ChatExchange(Ground& ground, Answering& answering, Caller caller);
  ~ChatExchange() override;

  void Start(std::shared_ptr<Body> body) override;
  void OnSent() override;
  void Cancel() override;
  void GiveUp(const absl::Status& why) override;

 private:
  // A body that was read.
  struct Read {
    ChatRequest request;
    std::vector<Allowance::Share> shares;          // of what is in memory
    std::unique_ptr<sdk::ReplyProgress> progress;  // null while there are pictures to be fetched
  };
  // On a reader's thread, the next four.
  absl::StatusOr<Read> ReadBody(Body& body);
  absl::Status LoadFiles(Read& read);
  // The picture at last.
  static void Add(const PictureReference& reference, CountedBytes bytes, Read& read);
  // Makes media ready to be uploaded.
  static void Complete(Read& read);

  void OnRead(absl::StatusOr<Read> read);
  void Fetch(std::shared_ptr<Read> read);
  void Ask(Read& read);
  void OnEvent(const ReplyCall::Event& event);
  void OnEnd(const absl::Status& status);
  void BeginEvents();
  void SendText();

  Ground& ground_;
  Answering* answering_;  // null: cancelled, or answered
  const Caller caller_;
  const absl::Time arrival_;
  TracedWork work_;
  bool is_stream_ = false;
  ChunkWriter chunks_{false};
  ReplyNames names_;
  std::vector<Allowance::Share> shares_;
  std::shared_ptr<RemotePictures> pictures_;
  std::shared_ptr<ReplyCall> call_;
  bool has_begun_ = false;  // the stream of events
  std::string text_;        // that has not been sent
  chat::v1::ReplyEnding ending_;
};

}  // namespace minicpmv::gateway
