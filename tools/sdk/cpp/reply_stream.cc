#include "tools/sdk/cpp/reply_stream.h"

#include <utility>

#include "tools/sdk/cpp/status.h"
#include "tools/sdk/cpp/upload.h"

namespace minicpmv::sdk {

ReplyStream::ReplyStream(Servers& servers, chat::v1::StreamReplyRequest request,
                         const CallOptions& options)
    : servers_(servers), attempts_(servers, options), progress_(std::move(request)) {}

ReplyStream::~ReplyStream() {
  if (!reader_) return;
  Cancel();
  Close().IgnoreError();
}

absl::Status ReplyStream::UploadMedia() {
  for (size_t i = 0; i < progress_.media(); ++i) {
    context_ = attempts_.NewContext();
    absl::StatusOr<chat::v1::UploadedMedia> uploaded =
        Upload(*attempts_.server().stub, *context_, progress_.OfferOf(i), progress_.medium(i));
    if (!uploaded.ok()) return uploaded.status();
    progress_.SetHandle(i, uploaded->handle());
  }
  return absl::OkStatus();
}

absl::Status ReplyStream::Open() {
  if (absl::Status uploaded = UploadMedia(); !uploaded.ok()) return uploaded;
  context_ = attempts_.NewContext();
  reader_ = attempts_.server().stub->StreamReply(context_.get(), progress_.BeginAttempt());
  return absl::OkStatus();
}

absl::Status ReplyStream::Close() {
  const grpc::Status status = reader_->Finish();
  reader_ = nullptr;
  return FromGrpc(status);
}

absl::StatusOr<ReplyStream::Event> ReplyStream::Read() {
  if (!reader_) {
    if (absl::Status opened = Open(); !opened.ok()) return opened;
  }
  Event event;
  while (reader_->Read(&event)) {
    switch (progress_.Judge(event)) {
      case ReplyProgress::Verdict::kDeliver:
        attempts_.NoteProgress();
        return event;
      case ReplyProgress::Verdict::kSkip:
        break;
      case ReplyProgress::Verdict::kBroken:
        context_->TryCancel();
        Close().IgnoreError();
        return absl::UnavailableError("events of a reply did not follow each other");
    }
  }
  absl::Status ended = Close();
  if (ended.ok()) ended = absl::UnavailableError("a reply ended without its ending");
  return ended;
}

absl::StatusOr<std::optional<chat::v1::StreamReplyResponse>> ReplyStream::Next() {
  if (!failure_.ok()) return failure_;
  while (!progress_.has_ended()) {
    absl::StatusOr<Event> event = Read();
    if (event.ok()) return std::optional<Event>(*std::move(event));
    failure_ = attempts_.AwaitNext(event.status());
    if (!failure_.ok()) return failure_;
    if (progress_.has_start()) ++resumptions_;
  }
  return std::optional<Event>();
}

}  // namespace minicpmv::sdk
