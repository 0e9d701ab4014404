// The receiving end of a link against senders that lie, stall, die and repeat themselves.

#include "services/common/transfer_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "services/common/deliver_messages.h"
#include "services/common/status_proto.h"
#include "services/common/transfer_version.h"
#include "tests/services/common/eventually.h"
#include "tests/services/common/link_fixture.h"

namespace minicpmv {
namespace {

using ::testing::HasSubstr;
using transfer::v1::DeliverRequest;
using transfer::v1::DeliverResponse;
using transfer::v1::OpenLinkRequest;
using transfer::v1::OpenLinkResponse;
using transfer::v1::Refused;

// A sender whose every message a test writes itself.
class RawSender {
 public:
  explicit RawSender(const ReceivingWorker& receiver)
      : channel_(grpc::CreateChannel(receiver.address, grpc::InsecureChannelCredentials())),
        stub_(transfer::v1::TransferService::NewStub(channel_)) {
    life.mutable_sender()->set_worker_id("raw");
    life.mutable_sender()->set_incarnation(std::string(16, 'r'));
    life.mutable_receiver()->set_worker_id("receiver");
    life.mutable_receiver()->set_incarnation(BytesOf(receiver.landings.incarnation()));
  }
  ~RawSender() {
    if (stream_ == nullptr) return;
    context_->TryCancel();
    End().IgnoreError();
  }

  OpenLinkRequest OpenRequest() const {
    OpenLinkRequest request;
    *request.mutable_sender() = life.sender();
    *request.mutable_receiver() = life.receiver();
    request.set_first_version(kFirstTransferVersion);
    request.set_last_version(kLastTransferVersion);
    request.set_layout_fingerprint(kLayout);
    request.add_kinds(common::v1::LINK_KIND_HOST);
    return request;
  }
  absl::StatusOr<OpenLinkResponse> Open(const OpenLinkRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    OpenLinkResponse response;
    const absl::Status status = FromGrpc(stub_->OpenLink(&context, request, &response));
    if (!status.ok()) return status;
    life.set_link_epoch(response.link_epoch());
    return response;
  }
  absl::Status Close() {
    grpc::ClientContext context;
    SetDeadline(context);
    transfer::v1::CloseLinkRequest request;
    *request.mutable_link() = life;
    transfer::v1::CloseLinkResponse response;
    return FromGrpc(stub_->CloseLink(&context, request, &response));
  }

  // Opens the stream and writes the first message.
  void Begin() {
    StartStream();
    DeliverRequest request;
    *request.mutable_link() = life;
    Write(request);
  }
  // Opens the link and the stream.
  void Start() {
    CHECK(Open(OpenRequest()).ok());
    Begin();
  }
  void StartStream() {
    context_ = std::make_unique<grpc::ClientContext>();
    SetDeadline(*context_);
    stream_ = stub_->Deliver(context_.get());
  }
  bool Write(const DeliverRequest& request) { return stream_->Write(request); }
  bool WriteLabel(const transfer::v1::Label& label) {
    DeliverRequest request;
    *request.mutable_label() = label;
    return Write(request);
  }
  // Bytes of a parcel; the checksum goes on from `crc`.
  bool WriteBytes(size_t offset, size_t count, uint32_t* crc) {
    DeliverRequest request;
    const absl::Span<const uint8_t> bytes = absl::MakeSpan(TestBytes()).subspan(offset, count);
    *crc = ExtendCrc32c(*crc, bytes);
    request.mutable_bytes()->set_data(bytes.data(), bytes.size());
    request.mutable_bytes()->set_crc32c(*crc);
    return Write(request);
  }
  transfer::v1::Label LabelOf(const LandingName& landing, uint64_t number, size_t size) {
    return ToProto(TestParcel(landing, static_cast<int64_t>(number), size).label, number,
                   life.link_epoch());
  }
  bool WriteParcel(const LandingName& landing, uint64_t number, size_t size) {
    uint32_t crc = 0;
    return WriteLabel(LabelOf(landing, number, size)) && WriteBytes(0, size, &crc);
  }

  // The next answer that is no credit; an empty one at the end.
  DeliverResponse Read() {
    DeliverResponse response;
    while (stream_->Read(&response)) {
      if (!response.has_credit()) return response;
      credit += response.credit().strips();
    }
    return DeliverResponse();
  }
  // Sends no more; how the call ends.
  absl::Status End() {
    stream_->WritesDone();
    while (Read().event_case() != DeliverResponse::EVENT_NOT_SET) {
    }
    const absl::Status status = FromGrpc(stream_->Finish());
    stream_ = nullptr;
    return status;
  }
  void Die() { context_->TryCancel(); }

  transfer::v1::LinkLife life;
  uint32_t credit = 0;

 private:
  static void SetDeadline(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + kLongest);
  }

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<transfer::v1::TransferService::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriter<DeliverRequest, DeliverResponse>> stream_;
};

class TransferServiceTest : public ::testing::Test {
 protected:
  TransferServiceTest() { landing_ = receiver_.landings.Open(shelf_); }
  ~TransferServiceTest() override {
    sender_ = nullptr;
    receiver_.Stop();
    Gate closed;
    receiver_.landings.Close(landing_.slot, [&] { closed.Open(); });
    EXPECT_TRUE(closed.Wait());
    EXPECT_EQ(shelf_.wrong, 0);
    EXPECT_EQ(receiver_.observer.held_strips, 0);
    EXPECT_EQ(receiver_.observer.free_strips, 0);
  }
  void ExpectLanded(uint64_t number) {
    const DeliverResponse response = sender_->Read();
    EXPECT_EQ(response.landed().number(), number) << response.ShortDebugString();
  }
  Refused ReadRefused() {
    const DeliverResponse response = sender_->Read();
    EXPECT_TRUE(response.has_refused()) << response.ShortDebugString();
    return response.refused();
  }
  // The stream is damaged by `request`: it ends with DATA_LOSS.
  void ExpectDataLoss(const DeliverRequest& request, const std::string& words) {
    sender_->Write(request);
    const absl::Status status = sender_->End();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  }

  Shelf shelf_;
  ReceivingWorker receiver_{/*strips=*/4, /*placing_deadline=*/absl::Seconds(30)};
  LandingName landing_;
  std::unique_ptr<RawSender> sender_ = std::make_unique<RawSender>(receiver_);
};

TEST_F(TransferServiceTest, RefusesToOpenWhatCannotWork) {
  const auto code = [&](auto change) {
    OpenLinkRequest request = sender_->OpenRequest();
    change(request);
    return sender_->Open(request).status().code();
  };
  EXPECT_EQ(code([](auto& r) { r.mutable_receiver()->set_worker_id("else"); }),
            absl::StatusCode::kAborted);
  EXPECT_EQ(code([](auto& r) { r.mutable_receiver()->set_incarnation(std::string(16, 'x')); }),
            absl::StatusCode::kAborted);
  EXPECT_EQ(code([](auto& r) { r.mutable_receiver()->set_device(1); }),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(code([](auto& r) { r.mutable_sender()->set_incarnation("short"); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](auto& r) { r.mutable_sender()->clear_worker_id(); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](auto& r) { r.mutable_sender()->set_worker_id(std::string(10000, 'i')); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](auto& r) { r.set_last_version(0), r.set_first_version(0); }),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(code([](auto& r) { r.set_first_version(7), r.set_last_version(9); }),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(code([](auto& r) { r.set_layout_fingerprint("other"); }),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(code([](auto& r) { r.clear_kinds(), r.add_kinds(common::v1::LINK_KIND_NCCL); }),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(code([](auto& r) { r.set_last_version(99); }), absl::StatusCode::kOk);
}

TEST_F(TransferServiceTest, GivesEachLifeOfALinkAHigherEpoch) {
  uint64_t last = 0;
  for (int i = 0; i < 5; ++i) {
    const auto response = sender_->Open(sender_->OpenRequest());
    ASSERT_TRUE(response.ok());
    EXPECT_GT(response->link_epoch(), last);
    EXPECT_EQ(response->strips(), 4u);
    EXPECT_EQ(response->strip_bytes(), static_cast<uint64_t>(kMaxParcelBytes));
    last = response->link_epoch();
  }
}

TEST_F(TransferServiceTest, TakesParcelsThatAreWrittenTheLongWay) {
  sender_->Start();
  for (uint64_t number = 1; number <= 20; ++number) {
    ASSERT_TRUE(sender_->WriteParcel(landing_, number, 100000));
    ExpectLanded(number);
  }
  EXPECT_EQ(shelf_.landed, 20);
  EXPECT_TRUE(sender_->End().ok());
  EXPECT_GE(sender_->credit, 16u);
}

TEST_F(TransferServiceTest, EndsAStreamOfAnEarlierLife) {
  sender_->Start();
  ASSERT_TRUE(sender_->WriteParcel(landing_, 1, 1000));
  ExpectLanded(1);
  uint32_t crc = 0;
  ASSERT_TRUE(sender_->WriteLabel(sender_->LabelOf(landing_, 2, 1000)));
  ASSERT_TRUE(sender_->WriteBytes(0, 400, &crc));
  ASSERT_TRUE(Eventually([&] { return receiver_.observer.held_strips == 1; }));
  RawSender again(receiver_);
  ASSERT_TRUE(again.Open(again.OpenRequest()).ok());
  // What it was placing has ended by now.
  EXPECT_EQ(shelf_.failed, 1);
  sender_->WriteBytes(400, 600, &crc);
  EXPECT_TRUE(absl::IsAborted(sender_->End()));
  EXPECT_EQ(shelf_.landed, 1);

  // The old epoch cannot come back, the new one works.
  sender_->Begin();
  EXPECT_TRUE(absl::IsAborted(sender_->End()));
  again.Begin();
  ASSERT_TRUE(again.WriteParcel(landing_, 1, 1000));
  EXPECT_EQ(again.Read().landed().number(), 1u);
}

TEST_F(TransferServiceTest, AllowsOneCallOfDeliverForEachLife) {
  sender_->Start();
  ASSERT_TRUE(sender_->WriteParcel(landing_, 1, 1000));
  ExpectLanded(1);
  RawSender second(receiver_);
  second.life = sender_->life;
  second.Begin();
  EXPECT_TRUE(absl::IsAborted(second.End()));
  ASSERT_TRUE(sender_->WriteParcel(landing_, 2, 1000));
  ExpectLanded(2);
}

TEST_F(TransferServiceTest, DoesNotMixUpTwoProcessesOfOneWorkerId) {
  sender_->Start();
  RawSender other(receiver_);
  other.life.mutable_sender()->set_incarnation(std::string(16, 'o'));
  other.Start();
  ASSERT_TRUE(sender_->WriteParcel(landing_, 1, 1000));
  ExpectLanded(1);
  ASSERT_TRUE(other.WriteParcel(landing_, 1, 1000));
  EXPECT_EQ(other.Read().landed().number(), 1u);
}

TEST_F(TransferServiceTest, RefusesALabelOfAnotherEpochIncarnationOrSlot) {
  sender_->Start();
  transfer::v1::Label label = sender_->LabelOf(landing_, 1, 1000);
  label.set_link_epoch(label.link_epoch() + 1);
  ASSERT_TRUE(sender_->WriteLabel(label));
  EXPECT_EQ(ReadRefused().reason(), Refused::REASON_EPOCH);
  label = sender_->LabelOf({DrawIncarnation(), landing_.slot}, 2, 1000);
  ASSERT_TRUE(sender_->WriteLabel(label));
  EXPECT_EQ(ReadRefused().reason(), Refused::REASON_INCARNATION);
  label = sender_->LabelOf({landing_.incarnation, landing_.slot + 1}, 3, 1000);
  ASSERT_TRUE(sender_->WriteLabel(label));
  EXPECT_EQ(ReadRefused().reason(), Refused::REASON_SLOT);
  EXPECT_EQ(shelf_.landed + shelf_.failed, 0);
  // The rest of a refused parcel was left out each time; of this one it comes.
  label = sender_->LabelOf({landing_.incarnation, 0}, 4, 1000);
  ASSERT_TRUE(sender_->WriteLabel(label));
  uint32_t crc = 0;
  ASSERT_TRUE(sender_->WriteBytes(0, 1000, &crc));
  EXPECT_EQ(ReadRefused().reason(), Refused::REASON_SLOT);
  ASSERT_TRUE(sender_->WriteParcel(landing_, 5, 1000));
  ExpectLanded(5);
}

TEST_F(TransferServiceTest, RefusesALabelThatLies) {
  shelf_.on_place = [](const ParcelLabel& label) {
    return label.count == 1 ? absl::OkStatus() : absl::OutOfRangeError("there is one row");
  };
  sender_->Start();
  uint64_t number = 0;
  const auto refuses = [&](auto change, Refused::Reason reason) {
    transfer::v1::Label label = sender_->LabelOf(landing_, ++number, 1000);
    change(label);
    ASSERT_TRUE(sender_->WriteLabel(label));
    const Refused refused = ReadRefused();
    EXPECT_EQ(refused.number(), number);
    EXPECT_EQ(refused.reason(), reason) << refused.ShortDebugString();
    EXPECT_NE(refused.message(), "");
  };
  refuses([](auto& label) { label.set_size(0); }, Refused::REASON_LABEL);
  refuses([](auto& label) { label.set_size(kMaxParcelBytes + 1); }, Refused::REASON_LABEL);
  refuses([](auto& label) { label.set_size(~uint64_t{0}); }, Refused::REASON_LABEL);
  refuses([](auto& label) { label.clear_dtype(); }, Refused::REASON_LABEL);
  refuses([](auto& label) { label.set_dtype(static_cast<transfer::v1::DType>(99)); },
          Refused::REASON_LABEL);
  refuses([](auto& label) { label.clear_content(); }, Refused::REASON_LABEL);
  refuses([](auto& label) { label.set_incarnation("short"); }, Refused::REASON_LABEL);
  refuses([](auto& label) { label.mutable_activations()->set_step(~uint64_t{0}); },
          Refused::REASON_LABEL);
  refuses([](auto& label) { label.mutable_rows()->set_rows(2); }, Refused::REASON_LANDING);
  EXPECT_EQ(shelf_.landed + shelf_.failed, 0);
  ASSERT_TRUE(sender_->WriteParcel(landing_, ++number, 1000));
  ExpectLanded(number);
}

TEST_F(TransferServiceTest, RefusesANumberThatIsRepeatedOrSkipped) {
  sender_->Start();
  ASSERT_TRUE(sender_->WriteParcel(landing_, 1, 1000));
  ExpectLanded(1);
  ASSERT_TRUE(sender_->WriteParcel(landing_, 1, 1000));
  Refused refused = ReadRefused();
  EXPECT_EQ(refused.number(), 1u);
  EXPECT_EQ(refused.reason(), Refused::REASON_REPEATED);
  ASSERT_TRUE(sender_->WriteParcel(landing_, 3, 1000));
  refused = ReadRefused();
  EXPECT_EQ(refused.number(), 3u);
  EXPECT_EQ(refused.reason(), Refused::REASON_REPEATED);
  ASSERT_TRUE(sender_->WriteParcel(landing_, 2, 1000));
  ExpectLanded(2);
  EXPECT_EQ(shelf_.landed, 2);
}

TEST_F(TransferServiceTest, RefusesBytesThatDoNotMatchTheirChecksum) {
  sender_->Start();
  uint32_t crc = 0;
  ASSERT_TRUE(sender_->WriteLabel(sender_->LabelOf(landing_, 1, 1000)));
  ASSERT_TRUE(sender_->WriteBytes(0, 400, &crc));
  crc ^= 1;
  ASSERT_TRUE(sender_->WriteBytes(400, 300, &crc));
  EXPECT_EQ(ReadRefused().reason(), Refused::REASON_CHECKSUM);
  ASSERT_TRUE(sender_->WriteBytes(700, 300, &crc));  // of no interest any more
  // Without any checksum: as bad.
  ASSERT_TRUE(sender_->WriteLabel(sender_->LabelOf(landing_, 2, 1000)));
  DeliverRequest request;
  request.mutable_bytes()->set_data(std::string(1000, 'x'));
  ASSERT_TRUE(sender_->Write(request));
  EXPECT_EQ(ReadRefused().reason(), Refused::REASON_CHECKSUM);
  // In another order: each message is whole, the parcel is not.
  ASSERT_TRUE(sender_->WriteLabel(sender_->LabelOf(landing_, 3, 1000)));
  crc = 0;
  uint32_t other = ExtendCrc32c(0, absl::MakeSpan(TestBytes()).first(500));
  ASSERT_TRUE(sender_->WriteBytes(500, 500, &other));
  EXPECT_EQ(ReadRefused().reason(), Refused::REASON_CHECKSUM);
  EXPECT_EQ(shelf_.failed, 3);
  ASSERT_TRUE(sender_->WriteParcel(landing_, 4, 1000));
  ExpectLanded(4);
}

TEST_F(TransferServiceTest, EndsAStreamThatIsNotOne) {
  DeliverRequest bytes, label;
  bytes.mutable_bytes()->set_data("x");
  sender_->Open(sender_->OpenRequest()).IgnoreError();
  *label.mutable_label() = sender_->LabelOf(landing_, 1, 1000);

  sender_->StartStream();
  ExpectDataLoss(bytes, "without a label");
  sender_->StartStream();
  ExpectDataLoss(label, "before the first message");
  sender_->StartStream();
  ExpectDataLoss(DeliverRequest(), "says nothing");
  sender_->Begin();
  ExpectDataLoss(bytes, "without a label");
}

TEST_F(TransferServiceTest, EndsAStreamThatLosesItsThread) {
  DeliverRequest request;
  const auto after_half_a_parcel = [&] {
    sender_->Start();
    uint32_t crc = 0;
    ASSERT_TRUE(sender_->WriteLabel(sender_->LabelOf(landing_, 1, 1000)));
    ASSERT_TRUE(sender_->WriteBytes(0, 500, &crc));
  };
  after_half_a_parcel();
  *request.mutable_label() = sender_->LabelOf(landing_, 2, 1000);
  ExpectDataLoss(request, "in the middle of a parcel");
  after_half_a_parcel();
  request.mutable_bytes()->set_data(std::string(501, 'x'));
  ExpectDataLoss(request, "beyond a parcel's end");
  after_half_a_parcel();
  request.mutable_bytes()->clear_data();
  ExpectDataLoss(request, "0 bytes");
  after_half_a_parcel();
  *request.mutable_link() = sender_->life;
  ExpectDataLoss(request, "second first");
  EXPECT_EQ(shelf_.failed, 4);
  EXPECT_TRUE(absl::IsDataLoss(shelf_.last_failure));

  sender_->Start();
  ASSERT_TRUE(sender_->WriteLabel(sender_->LabelOf(landing_, 1, 1 << 20)));
  request.mutable_bytes()->set_data(std::string(kTransferMessageBytes + 1, 'x'));
  ExpectDataLoss(request, "262145 bytes");
}

TEST_F(TransferServiceTest, EndsAStreamWhoseAnswersNobodyReads) {
  sender_->Start();
  // Refused labels cost a sender next to nothing, and each has an answer.
  transfer::v1::Label label = sender_->LabelOf(landing_, 0, 1);
  uint64_t sent = 0;
  for (; sent < 2000000; ++sent) {
    label.set_number(77);
    if (!sender_->WriteLabel(label)) break;
  }
  EXPECT_LT(sent, 2000000u);
  EXPECT_TRUE(absl::IsResourceExhausted(sender_->End()));
}

TEST_F(TransferServiceTest, ASenderThatDiesInTheMiddleOfAParcelEndsItsPlacing) {
  sender_->Start();
  uint32_t crc = 0;
  ASSERT_TRUE(sender_->WriteLabel(sender_->LabelOf(landing_, 1, 1000)));
  ASSERT_TRUE(sender_->WriteBytes(0, 500, &crc));
  ASSERT_TRUE(Eventually([&] { return receiver_.observer.held_strips == 1; }));
  // Meanwhile its landing is closed: that waits for the parcel, and for nothing else.
  Shelf later;
  Gate closed;
  receiver_.landings.Close(landing_.slot, [&] { closed.Open(); });
  EXPECT_EQ(shelf_.failed, 0);
  EXPECT_EQ(receiver_.landings.open(), 1);
  sender_->Die();
  EXPECT_TRUE(closed.Wait());
  EXPECT_EQ(shelf_.failed, 1);
  EXPECT_TRUE(absl::IsUnavailable(shelf_.last_failure)) << shelf_.last_failure;
  EXPECT_EQ(receiver_.observer.failed(LinkFailure::kPeerGone), 1);
  landing_ = receiver_.landings.Open(later);
  EXPECT_FALSE(sender_->End().ok());
  sender_->Start();
  ASSERT_TRUE(sender_->WriteParcel(landing_, 1, 1000));
  ExpectLanded(1);
  sender_ = nullptr;
  receiver_.Stop();
  receiver_.landings.Close(landing_.slot, [] {});
  landing_ = receiver_.landings.Open(shelf_);
}

TEST_F(TransferServiceTest, ASenderThatStallsInTheMiddleOfAParcelLosesItsStream) {
  ReceivingWorker receiver(/*strips=*/4, /*placing_deadline=*/absl::Milliseconds(200));
  Shelf shelf;
  const LandingName landing = receiver.landings.Open(shelf);
  RawSender sender(receiver);
  sender.Start();
  // In time: any number of parcels.
  for (uint64_t number = 1; number <= 3; ++number) {
    ASSERT_TRUE(sender.WriteParcel(landing, number, 1000));
    EXPECT_EQ(sender.Read().landed().number(), number);
  }
  uint32_t crc = 0;
  ASSERT_TRUE(sender.WriteLabel(sender.LabelOf(landing, 4, 1000)));
  ASSERT_TRUE(sender.WriteBytes(0, 500, &crc));
  EXPECT_EQ(sender.Read().event_case(), DeliverResponse::EVENT_NOT_SET);
  EXPECT_TRUE(absl::IsDeadlineExceeded(sender.End()));
  EXPECT_EQ(shelf.failed, 1);
  EXPECT_EQ(receiver.observer.failed(LinkFailure::kTimeout), 1);
  receiver.Stop();
  receiver.landings.Close(landing.slot, [] {});
}

TEST_F(TransferServiceTest, CloseFinishesWhatIsBeingPlaced) {
  sender_->Start();
  uint32_t crc = 0;
  ASSERT_TRUE(sender_->WriteLabel(sender_->LabelOf(landing_, 1, 1000)));
  ASSERT_TRUE(sender_->WriteBytes(0, 500, &crc));
  ASSERT_TRUE(Eventually([&] { return receiver_.observer.held_strips == 1; }));
  std::future<absl::Status> closed =
      std::async(std::launch::async, [&] { return sender_->Close(); });
  // The second half may come before or after the call: either way all of the parcel lands.
  ASSERT_TRUE(sender_->WriteBytes(500, 500, &crc));
  ExpectLanded(1);
  ASSERT_EQ(closed.wait_for(kLongest), std::future_status::ready);
  EXPECT_TRUE(closed.get().ok());
  EXPECT_EQ(sender_->Read().event_case(), DeliverResponse::EVENT_NOT_SET);
  EXPECT_TRUE(sender_->End().ok());
  EXPECT_TRUE(absl::IsAborted(sender_->Close()));
  sender_->Begin();
  EXPECT_TRUE(absl::IsAborted(sender_->End()));
}

}  // namespace
}  // namespace minicpmv
