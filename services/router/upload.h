#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "minicpmv/chat/v1/chat_service.pb.h"
#include "runtime/base/trace_file.h"
#include "services/common/calls.h"
#include "services/router/loop.h"
#include "services/router/media_bytes.h"
#include "services/router/router.h"

namespace minicpmv::router {

// One UploadMedia: an offer, a decision, chunks, the medium's home, a handle.
class Upload : public std::enable_shared_from_this<Upload> {
 public:
  using Stream = ServerBidi<chat::v1::UploadMediaRequest, chat::v1::UploadMediaResponse>;

  Upload(Router& router, Loop& loop, MediaBytes& media, absl::Duration patience,
         std::string cache_scope, TraceContext trace, std::shared_ptr<Stream> stream);
  ~Upload();

  // Reads and answers until the end, which it sees to itself.
  void Start();

 private:
  // On gRPC's threads.
  void OnRequest(std::optional<chat::v1::UploadMediaRequest> request);
  absl::Status TakeOffer(const chat::v1::UploadOffer& offer);
  absl::Status TakeChunk(const chat::v1::UploadChunk& chunk);
  absl::Status Complete();

  // On the loop.
  void BringHome(MediaBytes::Held medium);
  void OnHome(std::variant<common::v1::MediaInfo, absl::Status> what);
  void Watch();
  void Close();

  Router& router_;
  Loop& loop_;
  MediaBytes& media_;
  const absl::Duration patience_;
  const std::string cache_scope_;
  const TracedWork work_;
  const absl::Time arrival_;
  const std::shared_ptr<Stream> stream_;

  // Of gRPC's threads.
  bool has_offer_ = false, is_complete_ = false, has_failed_ = false;
  std::string digest_, bytes_;
  uint64_t size_ = 0;
  std::unique_ptr<MediaBytes::Room> room_;

  std::atomic<uint64_t> received_ = 0;  // messages

  // Of the loop.
  bool is_closed_ = false;
  uint64_t seen_ = 0;  // of `received_`
  std::unique_ptr<Loop::Alarm> alarm_;
  MediaBytes::Held medium_;
  std::unique_ptr<Open> open_;
  std::optional<common::v1::MediaInfo> info_;
};

}  // namespace minicpmv::router
