#include "services/vision/put_call.h"

#include <utility>

#include "runtime/base/status_macros.h"
#include "runtime/base/tracing.h"
#include "services/common/read_prompt.h"
#include "services/common/test_points.h"

namespace minicpmv::vision {

PutCall::PutCall(VisionRoom& room, std::shared_ptr<Stream> stream, TraceContext trace)
    : room_(room),
      open_(room.calls),
      stream_(std::move(stream)),
      handed_(room.worker.clock().Now()),
      work_{"", std::move(trace)} {}

PutCall::~PutCall() {
  TraceWork(TraceRow::kRequest, "PutMedia", handed_, kNow, work_, {{"bytes", received_}});
}

void PutCall::Start(std::unique_ptr<Worker::Call> admitted) {
  admitted_ = std::move(admitted);
  // The stream lets go of it when the call is over.
  stream_->Receive([self = shared_from_this()](std::optional<v1::PutMediaRequest> request) {
    self->Receive(std::move(request));
  });
}

void PutCall::Receive(std::optional<v1::PutMediaRequest> request) {
  if (!request) {
    upload_.reset();
    if (!is_over_) stream_->End(absl::DataLossError("the medium has not come as a whole"));
    is_over_ = true;
    admitted_.reset();
    return;
  }
  if (is_over_) return;
  const absl::Status status = Take(*request);
  if (status.ok()) return;
  room_.metrics.CountReject(status);
  upload_.reset();
  is_over_ = true;
  stream_->End(status);
}

absl::Status PutCall::Take(const v1::PutMediaRequest& request) {
  switch (request.event_case()) {
    case v1::PutMediaRequest::kOffer:
      return TakeOffer(request.offer());
    case v1::PutMediaRequest::kChunk:
      return TakeChunk(request.chunk());
    case v1::PutMediaRequest::EVENT_NOT_SET:
      break;
  }
  return BadField("event", "is not set");
}

absl::Status PutCall::TakeOffer(const v1::MediaOffer& offer) {
  if (has_offer_) return absl::DataLossError("a second offer");
  has_offer_ = true;
  RETURN_IF_ERROR(CheckScope(offer.scope()));
  work_.request_id = offer.scope().request_id();
  v1::PutMediaResponse decision;
  const MediaStore::Pin held = room_.media.Find(offer.scope().cache_scope(), offer.digest());
  if (held) {
    decision.set_decision(v1::PutMediaResponse::DECISION_HELD);
    stream_->Send(std::move(decision));
    Answer(held);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(MediaUpload upload,
                   room_.media.Begin(offer.scope().cache_scope(), offer.digest(), offer.size()));
  upload_.emplace(std::move(upload));
  decision.set_decision(v1::PutMediaResponse::DECISION_SEND);
  stream_->Send(std::move(decision));
  return absl::OkStatus();
}

absl::Status PutCall::TakeChunk(const v1::MediaChunk& chunk) {
  if (!upload_) return absl::DataLossError("a chunk before the offer");
  RETURN_IF_ERROR(upload_->Add(chunk.offset(), chunk.data()));
  received_ += static_cast<int64_t>(chunk.data().size());
  if (!is_half_ && upload_->received() >= upload_->size() / 2) {
    is_half_ = true;
    TestPoint("vision.media_half_put", work_.request_id);
  }
  if (!upload_->is_complete()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const MediaStore::Pin medium, (*std::move(upload_)).Finish());
  upload_.reset();
  room_.metrics.CountMedium(medium->info.format());
  Answer(medium);
  return absl::OkStatus();
}

void PutCall::Answer(const MediaStore::Pin& medium) {
  v1::PutMediaResponse response;
  *response.mutable_info() = medium->info;
  stream_->Send(std::move(response));
  is_over_ = true;
  stream_->End(absl::OkStatus());
}

}  // namespace minicpmv::vision
