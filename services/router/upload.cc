#include "services/router/upload.h"

#include <openssl/sha.h>

#include <algorithm>

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/base/tracing.h"
#include "services/common/durations.h"
#include "services/common/read_prompt.h"

namespace minicpmv::router {
namespace {

constexpr size_t kMaxChunkBytes = 256 << 10;

absl::Status OutOfPlace(absl::string_view words) { return absl::DataLossError(words); }

}  // namespace

Upload::Upload(Router& router, Loop& loop, MediaBytes& media, absl::Duration patience,
               std::string cache_scope, TraceContext trace, std::shared_ptr<Stream> stream)
    : router_(router),
      loop_(loop),
      media_(media),
      patience_(patience),
      cache_scope_(std::move(cache_scope)),
      work_{"", std::move(trace)},
      arrival_(loop.Now()),
      stream_(std::move(stream)) {}

Upload::~Upload() {
  TraceWork(TraceRow::kRequest, "UploadMedia", arrival_, kNow, work_,
            {{"bytes", static_cast<int64_t>(size_)}});
}

void Upload::Start() {
  const auto self = shared_from_this();
  stream_->OnGone([self] { self->loop_.Post([self] { self->Close(); }); });
  loop_.Post([self] { self->Watch(); });
  stream_->Receive([self](std::optional<chat::v1::UploadMediaRequest> request) {
    self->OnRequest(std::move(request));
  });
}

void Upload::OnRequest(std::optional<chat::v1::UploadMediaRequest> request) {
  ++received_;
  if (has_failed_) return;
  absl::Status status;
  if (!request.has_value()) {
    if (!is_complete_) status = OutOfPlace("the upload ended before all its bytes had come");
  } else if (request->has_offer() && !has_offer_) {
    status = TakeOffer(request->offer());
  } else if (request->has_chunk() && has_offer_) {
    status = TakeChunk(request->chunk());
  } else {
    status = BadField("event", has_offer_ ? "is not a chunk" : "is not an offer");
  }
  if (status.ok()) return;
  has_failed_ = true;
  bytes_ = std::string();
  room_ = nullptr;
  stream_->End(status);
  loop_.Post([self = shared_from_this()] { self->Close(); });
}

absl::Status Upload::TakeOffer(const chat::v1::UploadOffer& offer) {
  if (offer.digest().size() != SHA256_DIGEST_LENGTH) {
    return BadField("offer.digest", "is not 32 bytes");
  }
  if (offer.size() == 0) return BadField("offer.size", "is 0");
  has_offer_ = true;
  digest_ = offer.digest();
  size_ = offer.size();
  chat::v1::UploadMediaResponse response;
  MediaBytes::Held held = media_.Find(cache_scope_, digest_);
  // Another size with the same digest: whoever sends the bytes will be told so.
  if (held != nullptr && held->size() == size_) {
    is_complete_ = true;
    response.set_decision(chat::v1::UploadMediaResponse::DECISION_HELD);
    stream_->Send(std::move(response));
    loop_.Post([self = shared_from_this(), held = std::move(held)]() mutable {
      self->BringHome(std::move(held));
    });
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<MediaBytes::Room>> room = media_.Reserve(size_);
  if (!room.ok()) return WithField(room.status(), "offer.size");
  room_ = *std::move(room);
  response.set_decision(chat::v1::UploadMediaResponse::DECISION_SEND);
  stream_->Send(std::move(response));
  return absl::OkStatus();
}

absl::Status Upload::TakeChunk(const chat::v1::UploadChunk& chunk) {
  if (is_complete_) return OutOfPlace("a chunk came after all bytes were there");
  if (chunk.data().empty() || chunk.data().size() > kMaxChunkBytes) {
    return BadField("chunk.data", absl::StrCat("has not between 1 and ", kMaxChunkBytes, " bytes"));
  }
  if (chunk.offset() != bytes_.size()) {
    return OutOfPlace(absl::StrCat("a chunk begins at ", chunk.offset(), " and not at ",
                                   bytes_.size(), ", where the last one ended"));
  }
  if (chunk.data().size() > size_ - bytes_.size()) {
    return OutOfPlace(absl::StrCat("more bytes came than the ", size_, " that were offered"));
  }
  bytes_ += chunk.data();
  return bytes_.size() == size_ ? Complete() : absl::OkStatus();
}

absl::Status Upload::Complete() {
  if (DigestOf(bytes_) != digest_) return OutOfPlace("the bytes do not have the offered digest");
  is_complete_ = true;
  ASSIGN_OR_RETURN(MediaBytes::Held held,
                   media_.Keep(cache_scope_, digest_, std::move(bytes_), std::move(room_)));
  loop_.Post([self = shared_from_this(), held = std::move(held)]() mutable {
    self->BringHome(std::move(held));
  });
  return absl::OkStatus();
}

void Upload::BringHome(MediaBytes::Held medium) {
  if (is_closed_) return;
  alarm_ = nullptr;  // from here on nobody waits for the client
  medium_ = std::move(medium);
  open_ =
      router_.PutMedia(cache_scope_, work_.context, {medium_->digest(), medium_->InMemory()},
                       [self = shared_from_this()](auto what) { self->OnHome(std::move(what)); });
}

void Upload::OnHome(std::variant<common::v1::MediaInfo, absl::Status> what) {
  if (auto* const info = std::get_if<common::v1::MediaInfo>(&what)) {
    info_ = std::move(*info);
    return;
  }
  absl::Status status = std::get<absl::Status>(std::move(what));
  if (status.ok() && !info_) status = absl::UnavailableError("the medium's home did not read it");
  if (status.ok()) {
    chat::v1::UploadMediaResponse response;
    chat::v1::UploadedMedia& media = *response.mutable_media();
    media.set_handle(media_.Publish(medium_));
    media.set_format(info_->format());
    media.set_width(info_->width());
    media.set_height(info_->height());
    media.set_frames(std::max(1, info_->frame_times_size()));
    *media.mutable_kept_for() = ToProto(media_.kept_for());
    stream_->Send(std::move(response));
  }
  stream_->End(status);
  Close();
}

void Upload::Watch() {
  if (is_closed_ || medium_ != nullptr) return;
  const uint64_t received = received_;
  if (alarm_ != nullptr && received == seen_) {
    stream_->End(absl::DeadlineExceededError(
        absl::StrCat("no byte of the upload came for ", absl::FormatDuration(patience_))));
    return Close();
  }
  seen_ = received;
  alarm_ = loop_.At(loop_.Now() + patience_, [this] { Watch(); });
}

void Upload::Close() {
  is_closed_ = true;
  alarm_ = nullptr;
  medium_ = nullptr;
  open_ = nullptr;
  // Who has gone, or has been told an end, is told no other; the call does not end without one.
  stream_->End(absl::CancelledError("the client has gone"));
}

}  // namespace minicpmv::router
