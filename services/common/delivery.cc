#include "services/common/delivery.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/status_macros.h"
#include "services/common/transfer_service.h"
#include "services/common/transfer_version.h"

namespace minicpmv {
namespace {

using transfer::v1::DeliverRequest;
using transfer::v1::DeliverResponse;
using transfer::v1::Refused;

absl::Time Now() { return Clock::Monotonic().Now(); }

}  // namespace

Delivery::Delivery(std::shared_ptr<Stream> stream, const TransferOptions& options, Inbox& inbox,
                   LinkObserver& observer, PostThread& thread)
    : stream_(std::move(stream)),
      options_(options),
      inbox_(inbox),
      observer_(observer),
      thread_(thread) {}

void Delivery::Start(Bind bind, absl::AnyInvocable<void(const transfer::v1::LinkLife&)> ended) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    bind_ = std::move(bind);
    ended_ = std::move(ended);
  }
  // The stream lets go of these when the call is over.
  const std::shared_ptr<Delivery> self = shared_from_this();
  stream_->OnGone([self] { self->GiveUp(absl::UnavailableError("the sender has gone")); });
  stream_->Receive(
      [self](std::optional<grpc::ByteBuffer> message) { self->Receive(std::move(message)); });
}

void Delivery::GiveUp(const absl::Status& status) {
  End(std::unique_lock<std::mutex>(mutex_), status);
}

void Delivery::Finish(absl::AnyInvocable<void()> finished) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (is_ended_) {
    lock.unlock();
    finished();
    return;
  }
  finished_.push_back(std::move(finished));
  if (where_ != Where::kPlacing) End(std::move(lock), absl::OkStatus());
}

void Delivery::Receive(std::optional<grpc::ByteBuffer> message) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (is_ended_) return;
  if (!message) {
    // The sender has no more to say: that is how a link ends, unless it is in the middle of a
    // parcel.
    End(std::move(lock), where_ == Where::kPlacing
                             ? absl::UnavailableError("the sender left in the middle of a parcel")
                             : absl::OkStatus());
    return;
  }
  absl::Status status = Take(*message);
  if (!status.ok() || (!finished_.empty() && where_ != Where::kPlacing)) {
    End(std::move(lock), status);
  }
}

absl::Status Delivery::Take(const grpc::ByteBuffer& message) {
  if (std::optional<ArrivedBytes> bytes = ArrivedBytes::From(message)) {
    return TakeBytes(*std::move(bytes));
  }
  DeliverRequest request;
  if (!Decode(message, &request)) return absl::DataLossError("a message cannot be read");
  switch (request.event_case()) {
    case DeliverRequest::kLink:
      return TakeFirst(request);
    case DeliverRequest::kLabel:
      return TakeLabel(request.label());
    case DeliverRequest::kBytes:
      return TakeBytes(ArrivedBytes::From(request.bytes()));
    case DeliverRequest::EVENT_NOT_SET:
      break;
  }
  return absl::DataLossError("a message says nothing");
}

absl::Status Delivery::TakeFirst(const DeliverRequest& request) {
  if (where_ != Where::kFirst) return absl::DataLossError("a second first message");
  RETURN_IF_ERROR(bind_(request.link(), shared_from_this()));
  life_ = request.link();
  where_ = Where::kBetween;
  observer_.OnStrips(0, options_.strips);
  return absl::OkStatus();
}

absl::Status Delivery::TakeLabel(const transfer::v1::Label& label) {
  if (where_ == Where::kFirst) return absl::DataLossError("a label before the first message");
  if (where_ == Where::kPlacing) return absl::DataLossError("a label in the middle of a parcel");
  // The rest of one that was refused may be left out.
  where_ = Where::kSkipping;
  skip_left_ = label.size();
  if (label.number() != last_number_ + 1) {
    return Refuse(label.number(), Refused::REASON_REPEATED,
                  absl::InvalidArgumentError(
                      absl::StrCat("label.number is ", label.number(), " after ", last_number_)));
  }
  last_number_ = label.number();
  if (label.link_epoch() != life_.link_epoch()) {
    return Refuse(label.number(), Refused::REASON_EPOCH,
                  absl::AbortedError(absl::StrCat("label.link_epoch is ", label.link_epoch(),
                                                  " in life ", life_.link_epoch())));
  }
  absl::StatusOr<ParcelLabel> read = FromProto(label);
  if (!read.ok()) return Refuse(label.number(), Refused::REASON_LABEL, read.status());
  if (read->bytes > static_cast<uint64_t>(options_.strip_bytes)) {
    return Refuse(label.number(), Refused::REASON_LABEL,
                  absl::InvalidArgumentError(absl::StrCat("label.size is ", read->bytes,
                                                          ", a strip's ", options_.strip_bytes)));
  }
  if (read->landing.incarnation != options_.incarnation) {
    return Refuse(label.number(), Refused::REASON_INCARNATION,
                  absl::AbortedError("the parcel is for a process that is no more"));
  }
  absl::StatusOr<std::vector<TensorView>> places = inbox_.Place(*read);
  if (!places.ok()) {
    return Refuse(label.number(),
                  absl::IsAborted(places.status()) ? Refused::REASON_SLOT : Refused::REASON_LANDING,
                  places.status());
  }
  label_ = *std::move(read);
  places_ = ByteWriter(*std::move(places));
  CHECK_EQ(places_.left(), label_.bytes);
  crc_ = 0;
  where_ = Where::kPlacing;
  placing_since_ = Now();
  observer_.OnStrips(1, -1);
  if (!is_watching_) {
    is_watching_ = true;
    thread_.After(options_.placing_deadline, [weak = weak_from_this()] {
      if (const std::shared_ptr<Delivery> self = weak.lock()) self->Watch();
    });
  }
  return absl::OkStatus();
}

absl::Status Delivery::TakeBytes(ArrivedBytes bytes) {
  if (bytes.size() == 0 || bytes.size() > kTransferMessageBytes) {
    return absl::DataLossError(absl::StrCat("a message with ", bytes.size(), " bytes of a parcel"));
  }
  if (where_ == Where::kSkipping) {
    if (bytes.size() > skip_left_) return absl::DataLossError("bytes beyond a parcel's end");
    skip_left_ -= bytes.size();
    return absl::OkStatus();
  }
  if (where_ != Where::kPlacing) return absl::DataLossError("bytes without a label");
  if (bytes.size() > places_.left()) return absl::DataLossError("bytes beyond a parcel's end");
  if (const absl::Status status = bytes.MoveTo(places_, &crc_); !status.ok()) {
    const uint64_t left = places_.left();
    EndPlacing(status);
    where_ = Where::kSkipping;
    skip_left_ = left;
    return Refuse(last_number_, Refused::REASON_CHECKSUM, status);
  }
  if (places_.left() > 0) return absl::OkStatus();
  EndPlacing(absl::OkStatus());
  DeliverResponse response;
  response.mutable_landed()->set_number(last_number_);
  RETURN_IF_ERROR(Answer(response));
  return ReturnStrip();
}

absl::Status Delivery::Refuse(uint64_t number, Refused::Reason reason, const absl::Status& status) {
  DeliverResponse response;
  Refused& refused = *response.mutable_refused();
  refused.set_number(number);
  refused.set_reason(reason);
  if (reason == Refused::REASON_LANDING) refused.set_code(static_cast<uint32_t>(status.code()));
  refused.set_message(std::string(status.message()));
  RETURN_IF_ERROR(Answer(response));
  return ReturnStrip();
}

absl::Status Delivery::Answer(const DeliverResponse& response) {
  // A landed or refused parcel and a credit for each strip, and as much again: a sender that goes
  // on without reading them cannot make us keep more.
  if (stream_->waiting() > 4 * static_cast<size_t>(options_.strips)) {
    return absl::ResourceExhaustedError("the sender does not read what became of its parcels");
  }
  stream_->Send(Encode(response));
  return absl::OkStatus();
}

absl::Status Delivery::ReturnStrip() {
  // Told of several at a time. That a sender uses no more than it was told of needs no watching:
  // its parcels are placed one after the other, so a strip more takes nothing of ours.
  if (++freed_ < std::max(1, options_.strips / 4)) return absl::OkStatus();
  DeliverResponse response;
  response.mutable_credit()->set_strips(static_cast<uint32_t>(freed_));
  freed_ = 0;
  return Answer(response);
}

void Delivery::EndPlacing(const absl::Status& status) {
  if (where_ != Where::kPlacing) return;
  where_ = Where::kBetween;
  places_ = ByteWriter();
  observer_.OnStrips(-1, 1);
  inbox_.Landed(label_, status);
}

void Delivery::Watch() {
  std::unique_lock<std::mutex> lock(mutex_);
  is_watching_ = false;
  if (is_ended_ || where_ != Where::kPlacing) return;
  const absl::Duration left = placing_since_ + options_.placing_deadline - Now();
  if (left > absl::ZeroDuration()) {
    is_watching_ = true;
    thread_.After(left, [weak = weak_from_this()] {
      if (const std::shared_ptr<Delivery> self = weak.lock()) self->Watch();
    });
    return;
  }
  observer_.OnFailed(LinkFailure::kTimeout);
  End(std::move(lock), absl::DeadlineExceededError("a parcel's bytes do not come"));
}

void Delivery::End(std::unique_lock<std::mutex> lock, const absl::Status& status) {
  if (is_ended_) return;
  if (where_ == Where::kPlacing) {
    if (!absl::IsDeadlineExceeded(status)) observer_.OnFailed(LinkFailure::kPeerGone);
    EndPlacing(status);
  }
  const bool had_begun = where_ != Where::kFirst;
  is_ended_ = true;
  if (had_begun) observer_.OnStrips(0, -options_.strips);
  absl::AnyInvocable<void(const transfer::v1::LinkLife&)> ended = std::move(ended_);
  std::vector<absl::AnyInvocable<void()>> finished = std::move(finished_);
  finished_.clear();
  lock.unlock();
  stream_->End(status);
  if (had_begun) ended(life_);
  for (absl::AnyInvocable<void()>& one : finished) one();
}

}  // namespace minicpmv
