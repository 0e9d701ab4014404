#include "services/common/grpc_link.h"

#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/quoted.h"
#include "services/common/deliver_messages.h"
#include "services/common/incarnation.h"
#include "services/common/transfer_version.h"

namespace minicpmv {
namespace {

constexpr char kDeliver[] = "/minicpmv.transfer.v1.TransferService/Deliver";
// Messages that gRPC may hold at a time: enough that it never waits for us.
constexpr size_t kMessagesAhead = 4;
constexpr uint32_t kMostStrips = 1 << 16;
// Beyond that much time of travel the rate forgets half of what it knows.
constexpr double kRateSeconds = 2;

absl::Time Now() { return Clock::Monotonic().Now(); }

// What a call's end means for parcels: its own words, but one code for all that a lost peer causes.
absl::Status LinkStatus(const LinkPeer& peer, const absl::Status& status) {
  const std::string words =
      absl::StrCat("the link to ", Quoted(peer.worker_id), ": ",
                   status.ok() ? "the other end closed it" : Quoted(status.message()));
  switch (status.code()) {
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
      return absl::Status(status.code(), words);
    default:
      return absl::UnavailableError(words);
  }
}

struct Refusal {
  absl::StatusCode code;
  LinkFailure failure;
  const char* words;
};

Refusal RefusalFor(const transfer::v1::Refused& refused) {
  using Message = transfer::v1::Refused;
  switch (refused.reason()) {
    case Message::REASON_INCARNATION:
      return {absl::StatusCode::kAborted, LinkFailure::kAbort, "another process"};
    case Message::REASON_EPOCH:
      return {absl::StatusCode::kAborted, LinkFailure::kEpoch, "another life of the link"};
    case Message::REASON_SLOT:
      return {absl::StatusCode::kAborted, LinkFailure::kAbort, "no such landing (any more)"};
    case Message::REASON_CHECKSUM:
      return {absl::StatusCode::kDataLoss, LinkFailure::kChecksum, "damaged on the way"};
    case Message::REASON_REPEATED:
      return {absl::StatusCode::kDataLoss, LinkFailure::kChecksum, "out of order"};
    case Message::REASON_LABEL:
      return {absl::StatusCode::kInvalidArgument, LinkFailure::kRefused, "a label that is wrong"};
    case Message::REASON_LANDING: {
      // Any code but OK: a landing may answer what it likes.
      const bool is_code = refused.code() >= 1 && refused.code() <= 16;
      return {is_code ? static_cast<absl::StatusCode>(refused.code()) : absl::StatusCode::kUnknown,
              LinkFailure::kRefused, "the landing does not take it"};
    }
    default:
      return {absl::StatusCode::kUnknown, LinkFailure::kRefused, "for no known reason"};
  }
}

}  // namespace

GrpcLink::GrpcLink(const LinksOptions& options, LinkPeer peer, PostThread& thread,
                   LinkObserver& observer)
    : options_(options), peer_(std::move(peer)), thread_(thread), observer_(observer) {
  shown_.set_peer_id(peer_.worker_id);
  shown_.set_kind(common::v1::LINK_KIND_HOST);
}

GrpcLink::~GrpcLink() { CHECK(is_closing_ && open_calls_ == 0 && travelling_.empty()); }

void GrpcLink::Send(Parcel parcel, Ticket ticket) {
  bool is_first;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_first = sent_.empty();
    sent_.push_back({std::move(parcel), std::move(ticket)});
  }
  if (is_first) thread_.Post([this] { TakeSent(); });
}

void GrpcLink::Drop(const LandingName& landing) {
  thread_.Post([this, landing] {
    TakeSent();
    for (WaitingParcel& waiting : TakeFor(landing, waiting_)) {
      waiting.ticket(absl::CancelledError("the parcel was taken back"));
    }
  });
}

void GrpcLink::Close(absl::AnyInvocable<void()> closed) {
  thread_.Post([this, closed = std::move(closed)]() mutable {
    is_closing_ = true;
    closed_ = std::move(closed);
    const absl::Status status = absl::UnavailableError("the link was closed");
    if (opening_) opening_->Cancel();
    if (state_ == State::kUp) Break(status, LinkFailure::kPeerGone);
    FailWaiting(status);
    if (open_calls_ == 0) closed_();
  });
}

control::v1::LinkState GrpcLink::state() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return shown_;
}

void GrpcLink::TakeSent() {
  std::vector<WaitingParcel> sent;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    sent.swap(sent_);
  }
  for (WaitingParcel& one : sent) {
    if (const absl::Status status = CheckLabel(one.parcel.label); !status.ok()) {
      observer_.OnFailed(LinkFailure::kRefused);
      one.ticket(status);
    } else {
      waiting_.push_back(std::move(one));
    }
  }
  Step();
}

void GrpcLink::Step() {
  if (is_closing_) {
    FailWaiting(absl::UnavailableError("the link was closed"));
  } else if (state_ == State::kUp) {
    Pump();
  } else if (state_ == State::kDown && !waiting_.empty() && !is_delayed_) {
    const absl::Duration delay = next_attempt_ - Now();
    if (delay <= absl::ZeroDuration()) {
      Open();
      return;
    }
    is_delayed_ = true;
    thread_.After(delay, [this] {
      is_delayed_ = false;
      Step();
    });
  }
}

void GrpcLink::Open() {
  state_ = State::kOpening;
  BackOff();
  DialOptions dial;
  dial.own_connection = true;
  absl::StatusOr<std::shared_ptr<grpc::Channel>> channel =
      options_.credentials.Dial(peer_.address, dial);
  if (!channel.ok()) {
    Opened(channel.status());
    return;
  }
  channel_ = *std::move(channel);
  stub_ = transfer::v1::TransferService::NewStub(channel_);

  transfer::v1::OpenLinkRequest request;
  *request.mutable_sender() = SenderEnd();
  *request.mutable_receiver() = ReceiverEnd();
  request.set_first_version(kFirstTransferVersion);
  request.set_last_version(kLastTransferVersion);
  request.set_layout_fingerprint(options_.layout_fingerprint);
  request.add_kinds(common::v1::LINK_KIND_HOST);
  ++open_calls_;
  opening_ = Opening::Start(
      [&](auto* context, const auto* message, auto* response, auto done) {
        stub_->async()->OpenLink(context, message, response, std::move(done));
      },
      std::move(request),
      [this](absl::StatusOr<transfer::v1::OpenLinkResponse> response) {
        thread_.Post([this, response = std::move(response)]() mutable {
          opening_ = nullptr;
          Opened(std::move(response));
          CallEnded();
        });
      },
      [&](grpc::ClientContext& context) {
        context.set_deadline(std::chrono::system_clock::now() +
                             absl::ToChronoMilliseconds(options_.open_deadline));
      });
}

void GrpcLink::Opened(absl::StatusOr<transfer::v1::OpenLinkResponse> response) {
  absl::Status status = response.status();
  if (status.ok() &&
      (response->kind() != common::v1::LINK_KIND_HOST || response->link_epoch() <= epoch_ ||
       response->strips() == 0 || response->strips() > kMostStrips ||
       response->strip_bytes() == 0 || response->version() < kFirstTransferVersion ||
       response->version() > kLastTransferVersion)) {
    status = absl::UnavailableError("the answer makes no sense");
  }
  if (status.ok() && !is_closing_) {
    Begin(*response);
    return;
  }
  state_ = State::kDown;
  stub_ = nullptr;
  channel_ = nullptr;
  status = LinkStatus(peer_, status);
  if (!is_closing_) LogWarning(status.message());
  FailWaiting(status);
}

void GrpcLink::Begin(const transfer::v1::OpenLinkResponse& response) {
  const bool is_rebuilt = epoch_ > 0;
  state_ = State::kUp;
  const uint64_t life = ++life_;
  epoch_ = response.link_epoch();
  last_number_ = 0;
  strips_ = credit_ = response.strips();
  strip_bytes_ = response.strip_bytes();
  ++open_calls_;
  stream_channels_[life] = channel_;
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub(channel_);
  stream_ = Stream::Start(
      [&](auto* context, auto* reactor) {
        stub.PrepareBidiStreamingCall(context, kDeliver, grpc::StubOptions(), reactor);
      },
      {.message =
           [this, life](grpc::ByteBuffer buffer) {
             transfer::v1::DeliverResponse message;
             const bool is_readable = Decode(std::move(buffer), &message);
             thread_.Post([this, life, is_readable, message = std::move(message)] {
               Answered(life, is_readable, message);
             });
           },
       .end =
           [this, life](const absl::Status& status) {
             thread_.Post([this, life, status] {
               Ended(life, status);
               stream_channels_.erase(life);
               CallEnded();
             });
           },
       .written =
           [this, life] {
             thread_.Post([this, life] {
               if (life == life_ && state_ == State::kUp) Pump();
             });
           }});
  observer_.OnStrips(0, strips_);
  if (is_rebuilt) observer_.OnRebuilt();
  ShowState();

  transfer::v1::DeliverRequest request;
  transfer::v1::LinkLife& link = *request.mutable_link();
  *link.mutable_sender() = SenderEnd();
  *link.mutable_receiver() = ReceiverEnd();
  link.set_link_epoch(epoch_);
  stream_->Send(Encode(request));
  Pump();
}

void GrpcLink::Pump() {
  while (stream_->waiting() < kMessagesAhead) {
    if (!travelling_.empty() && travelling_.back().content.left() > 0) {
      stream_->Send(EncodeBytes(travelling_.back().content, &travelling_.back().crc));
    } else if (credit_ > 0 && !waiting_.empty()) {
      WaitingParcel next = std::move(waiting_.front());
      waiting_.pop_front();
      if (next.parcel.label.bytes <= strip_bytes_) {
        BeginTravel(std::move(next));
      } else {
        observer_.OnFailed(LinkFailure::kRefused);
        next.ticket(absl::InvalidArgumentError(
            absl::StrCat("a parcel of ", next.parcel.label.bytes, " bytes; a strip of the link to ",
                         Quoted(peer_.worker_id), " has ", strip_bytes_)));
      }
    } else {
      return;
    }
  }
}

void GrpcLink::BeginTravel(WaitingParcel waiting) {
  Travelling parcel;
  parcel.number = ++last_number_;
  parcel.label = waiting.parcel.label;
  parcel.ticket = std::move(waiting.ticket);
  parcel.began = Now();
  parcel.content = ByteReader(std::move(waiting.parcel.content));
  CHECK_EQ(parcel.content.left(), parcel.label.bytes);
  transfer::v1::DeliverRequest request;
  *request.mutable_label() = ToProto(parcel.label, parcel.number, epoch_);
  if (travelling_.empty()) busy_since_ = parcel.began;
  travelling_.push_back(std::move(parcel));
  --credit_;
  observer_.OnStrips(1, -1);
  stream_->Send(Encode(request));
  if (!is_watching_) Watch();
}

void GrpcLink::Answered(uint64_t life, bool is_readable,
                        const transfer::v1::DeliverResponse& response) {
  if (life != life_ || state_ != State::kUp) return;
  bool is_sound = is_readable;
  switch (response.event_case()) {
    case transfer::v1::DeliverResponse::kLanded: {
      Travelling parcel;
      is_sound = is_sound && TakeTravelling(response.landed().number(), &parcel);
      if (!is_sound) break;
      if (parcel.content.left() > 0) {
        // It cannot have what we have not sent.
        travelling_.push_back(std::move(parcel));
        observer_.OnStrips(1, -1);
        is_sound = false;
        break;
      }
      backoff_ = absl::ZeroDuration();
      landed_bytes_ += static_cast<double>(parcel.label.bytes);
      ShowState();
      observer_.OnLanded(kind(), parcel.label, Now() - parcel.began);
      parcel.ticket(absl::OkStatus());
      break;
    }
    case transfer::v1::DeliverResponse::kRefused:
      Refused(response.refused());
      return;
    case transfer::v1::DeliverResponse::kCredit:
      is_sound = is_sound && response.credit().strips() <= strips_ - credit_;
      if (is_sound) credit_ += response.credit().strips();
      break;
    case transfer::v1::DeliverResponse::EVENT_NOT_SET:
      is_sound = false;
      break;
  }
  if (is_sound) {
    Pump();
  } else {
    Break(LinkStatus(peer_, absl::InternalError("an answer makes no sense")),
          LinkFailure::kPeerGone);
    Step();
  }
}

void GrpcLink::Refused(const transfer::v1::Refused& refused) {
  Travelling parcel;
  if (!TakeTravelling(refused.number(), &parcel)) {
    Break(LinkStatus(peer_, absl::InternalError("an answer makes no sense")),
          LinkFailure::kPeerGone);
    Step();
    return;
  }
  const Refusal refusal = RefusalFor(refused);
  observer_.OnFailed(refusal.failure);
  std::string words = absl::StrCat("refused by ", Quoted(peer_.worker_id), ": ", refusal.words);
  if (!refused.message().empty()) absl::StrAppend(&words, ": ", Quoted(refused.message()));
  parcel.ticket(absl::Status(refusal.code, words));
  Pump();
}

void GrpcLink::Ended(uint64_t life, const absl::Status& status) {
  if (life != life_ || state_ != State::kUp) return;
  const absl::Status end = LinkStatus(peer_, status);
  LogWarning(end.message());
  Break(end, status.code() == absl::StatusCode::kAborted    ? LinkFailure::kEpoch
             : status.code() == absl::StatusCode::kDataLoss ? LinkFailure::kChecksum
                                                            : LinkFailure::kPeerGone);
  Step();
}

void GrpcLink::Watch() {
  is_watching_ = !travelling_.empty();
  if (!is_watching_) return;
  const absl::Duration left = travelling_.front().began + options_.travel_deadline - Now();
  if (left > absl::ZeroDuration()) {
    thread_.After(left, [this] { Watch(); });
    return;
  }
  is_watching_ = false;
  const absl::Status status = LinkStatus(
      peer_, absl::UnavailableError(absl::StrCat("a parcel has been travelling for ",
                                                 absl::FormatDuration(options_.travel_deadline))));
  LogWarning(status.message());
  Break(status, LinkFailure::kTimeout);
  Step();
}

void GrpcLink::Break(const absl::Status& status, LinkFailure failure) {
  ++life_;
  state_ = State::kDown;
  stream_->Cancel();
  stream_ = nullptr;
  stub_ = nullptr;
  channel_ = nullptr;
  std::deque<Travelling> lost;
  lost.swap(travelling_);
  const int64_t held = static_cast<int64_t>(lost.size());
  observer_.OnStrips(-held, held - strips_);
  for (Travelling& parcel : lost) {
    observer_.OnFailed(failure);
    parcel.ticket(status);
  }
}

void GrpcLink::FailWaiting(const absl::Status& status) {
  // A ticket may send again: what comes after this waits its turn.
  std::deque<WaitingParcel> failed;
  failed.swap(waiting_);
  for (WaitingParcel& waiting : failed) {
    observer_.OnFailed(FailureOf(status));
    waiting.ticket(status);
  }
}

void GrpcLink::BackOff() {
  next_attempt_ = Now() + backoff_;
  backoff_ = std::clamp(backoff_ * 2, options_.first_backoff, options_.last_backoff);
}

bool GrpcLink::TakeTravelling(uint64_t number, Travelling* taken) {
  const auto found = std::lower_bound(
      travelling_.begin(), travelling_.end(), number,
      [](const Travelling& parcel, uint64_t sought) { return parcel.number < sought; });
  if (found == travelling_.end() || found->number != number) return false;
  *taken = std::move(*found);
  travelling_.erase(found);
  observer_.OnStrips(-1, 1);
  const absl::Time now = Now();
  busy_seconds_ += absl::ToDoubleSeconds(now - busy_since_);
  busy_since_ = now;
  return true;
}

void GrpcLink::CallEnded() {
  if (--open_calls_ == 0 && is_closing_) closed_();
}

void GrpcLink::ShowState() {
  if (busy_seconds_ > kRateSeconds) {
    busy_seconds_ /= 2;
    landed_bytes_ /= 2;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  shown_.set_link_epoch(epoch_);
  if (busy_seconds_ > 0) shown_.set_rate(landed_bytes_ / busy_seconds_);
}

transfer::v1::LinkEnd GrpcLink::SenderEnd() const {
  transfer::v1::LinkEnd end;
  end.set_worker_id(options_.worker_id);
  end.set_incarnation(BytesOf(options_.incarnation));
  return end;
}

transfer::v1::LinkEnd GrpcLink::ReceiverEnd() const {
  transfer::v1::LinkEnd end;
  end.set_worker_id(peer_.worker_id);
  end.set_incarnation(BytesOf(peer_.incarnation));
  return end;
}

}  // namespace minicpmv
