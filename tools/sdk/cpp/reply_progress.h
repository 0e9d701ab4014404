#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "minicpmv/chat/v1/chat_service.pb.h"

namespace minicpmv::sdk {

// A reply over all the attempts that it takes: what the next attempt has to ask for, and which of
// its events are new. For one thread; it calls nobody.
class ReplyProgress {
 public:
  using Event = chat::v1::StreamReplyResponse;
  enum class Verdict {
    kDeliver,  // numbered as if nothing had broken
    kSkip,     // known already
    kBroken    // events do not follow each other: the attempt is worth nothing any more
  };

  // Inline media above 1 MiB in sum are taken out of the request and have to be uploaded.
  explicit ReplyProgress(chat::v1::StreamReplyRequest request);

  // Media to be uploaded, before each attempt: a server knows its own handles only.
  size_t media() const { return media_.size(); }
  absl::string_view medium(size_t index) const { return media_[index].bytes; }
  // The upload's first message.
  const chat::v1::UploadMediaRequest& OfferOf(size_t index) const { return media_[index].offer; }
  void SetHandle(size_t index, const std::string& handle) {
    media_[index].place->set_handle(handle);
  }

  // What the next attempt asks for. Lives as long as this.
  const chat::v1::StreamReplyRequest& BeginAttempt();

  // Of each event of the attempt. Also renumbers it.
  Verdict Judge(Event& event);

  bool has_start() const { return has_start_; }
  bool has_ended() const { return has_ended_; }

 private:
  struct Medium {
    std::string bytes;
    chat::v1::UploadMediaRequest offer;
    chat::v1::Media* place;  // in the request, which names a handle there
  };

  chat::v1::StreamReplyRequest request_;  // with `resume` as far as the reply has got
  std::vector<Medium> media_;
  bool is_at_first_event_ = true;  // of the present attempt
  bool has_start_ = false, has_ended_ = false;
  uint64_t sequence_ = 0;   // of the last event, as servers count
  uint64_t delivered_ = 0;  // events
};

}  // namespace minicpmv::sdk
