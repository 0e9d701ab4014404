// What can happen to a link between two processes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/services/common/eventually.h"
#include "tests/services/common/link_fixture.h"
#include "tests/services/common/link_proxy.h"

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

// Part of TestBytes, in the middle of a message's bytes.
std::string PatternAt(size_t offset) {
  return std::string(reinterpret_cast<const char*>(TestBytes().data()) + offset, 12);
}

class GrpcLinkTest : public ::testing::Test {
 protected:
  GrpcLinkTest() { landing_ = receiver_.landings.Open(shelf_); }
  ~GrpcLinkTest() override {
    links_ = nullptr;
    proxy_ = nullptr;
    receiver_.Stop();
    receiver_.landings.Close(landing_.slot, [] {});
    EXPECT_EQ(receiver_.landings.open(), 0);
    EXPECT_EQ(observer_.held_strips, 0);
    EXPECT_EQ(observer_.free_strips, 0);
    EXPECT_EQ(receiver_.observer.held_strips, 0);
    EXPECT_EQ(receiver_.observer.free_strips, 0);
  }

  // All links of one sender, and the one to the receiver through the proxy.
  Link& MakeLink(absl::Duration travel_deadline = absl::Seconds(30)) {
    LinksOptions options = SenderOptions("sender");
    options.travel_deadline = travel_deadline;
    options.open_deadline = travel_deadline;
    links_ = std::make_unique<Links>(options, none_, observer_);
    return To(proxy_->address());
  }
  Link& To(const std::string& address) {
    common::v1::Destination destination = receiver_.To(landing_);
    destination.set_address(address);
    const absl::StatusOr<Link*> link = links_->To(destination);
    CHECK(link.ok()) << link.status();
    return **link;
  }
  uint64_t Epoch() {
    for (const control::v1::LinkState& state : links_->States()) return state.link_epoch();
    return 0;
  }

  Shelf shelf_;
  ReceivingWorker receiver_;
  LandingName landing_;
  Landings none_{DrawIncarnation()};
  CountingObserver observer_;
  std::unique_ptr<LinkProxy> proxy_ = std::make_unique<LinkProxy>(receiver_.address);
  std::unique_ptr<Links> links_;
};

TEST_F(GrpcLinkTest, EndsACorruptedParcelWithDataLossAndNoOther) {
  Link& link = MakeLink();
  proxy_->CorruptOnce(PatternAt(400000));
  Outcome before, damaged, after;
  link.Send(TestParcel(landing_, 1, 300000, 0), before.ticket());
  link.Send(TestParcel(landing_, 2, 900000, 300000), damaged.ticket());
  link.Send(TestParcel(landing_, 3, 300000, 1200000), after.ticket());
  EXPECT_TRUE(before.Wait().ok());
  const absl::Status status = damaged.Wait();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_TRUE(after.Wait().ok());
  EXPECT_EQ(shelf_.landed, 2);
  EXPECT_EQ(shelf_.failed, 1);
  EXPECT_EQ(shelf_.wrong, 0);
  EXPECT_EQ(observer_.failed(LinkFailure::kChecksum), 1);
  // It may be sent again, by the same life of the link.
  EXPECT_TRUE(SendAndWait(link, TestParcel(landing_, 4, 900000, 300000)).ok());
  EXPECT_EQ(observer_.rebuilt, 0);
}

TEST_F(GrpcLinkTest, ComesToLifeAgainWithAHigherEpochAfterABreak) {
  Link& link = MakeLink();
  ASSERT_TRUE(SendAndWait(link, TestParcel(landing_, 1, 1000)).ok());
  const uint64_t first = Epoch();
  EXPECT_GT(first, 0u);
  proxy_->CutOnce(PatternAt(1000000));
  const absl::Status status = SendAndWait(link, TestParcel(landing_, 2, 3000000));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  // At once, unless a busy machine takes so long that gRPC gives up connecting.
  int64_t index = 2;
  EXPECT_TRUE(
      Eventually([&] { return SendAndWait(link, TestParcel(landing_, ++index, 3000000)).ok(); }));
  EXPECT_GT(Epoch(), first);
  EXPECT_EQ(observer_.rebuilt, 1);
  EXPECT_EQ(observer_.failed(LinkFailure::kPeerGone), index - 2);
  EXPECT_EQ(shelf_.landed, 2);
  EXPECT_EQ(shelf_.failed, 1);
  EXPECT_EQ(shelf_.wrong, 0);
}

TEST_F(GrpcLinkTest, CarriesInItsNextLifeWhatWaitedAtABreak) {
  Link& link = MakeLink();
  proxy_->CutOnce(PatternAt(1000000));
  // More than there are strips.
  std::vector<Outcome> outcomes(50);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    link.Send(TestParcel(landing_, static_cast<int64_t>(i) + 1, i == 3 ? 3000000 : 1000),
              outcomes[i].ticket());
  }
  int64_t landed = 0;
  for (Outcome& outcome : outcomes) {
    const absl::Status status = outcome.Wait();
    EXPECT_TRUE(status.ok() || absl::IsUnavailable(status)) << status;
    landed += status.ok();
  }
  EXPECT_GE(landed, 50 - 16);
  EXPECT_LT(landed, 50);
  EXPECT_EQ(shelf_.disordered, 0);
}

TEST_F(GrpcLinkTest, AReceiverThatStopsReadingEndsWhatTravelsAndHoldsUpNobodyElse) {
  ReceivingWorker other;
  Shelf other_shelf;
  const LandingName other_landing = other.landings.Open(other_shelf);
  Link& link = MakeLink(absl::Seconds(2));
  const absl::StatusOr<Link*> free = links_->To(other.To(other_landing));
  ASSERT_TRUE(free.ok());
  ASSERT_NE(*free, &link);
  ASSERT_TRUE(SendAndWait(link, TestParcel(landing_, 1, 1000)).ok());

  proxy_->Freeze();
  std::vector<Outcome> outcomes(40);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    link.Send(TestParcel(landing_, static_cast<int64_t>(i) + 2, 2 << 20), outcomes[i].ticket());
  }
  for (int64_t i = 1; i <= 20; ++i) {
    EXPECT_TRUE(SendAndWait(**free, TestParcel(other_landing, i, 1 << 20)).ok());
  }
  for (Outcome& outcome : outcomes) {
    const absl::Status status = outcome.Wait();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  }
  EXPECT_GE(observer_.failed(LinkFailure::kTimeout), 1);
  EXPECT_EQ(other_shelf.landed, 20);
  // Late bytes of the life that was given up hurt nobody, and the next one works.
  proxy_->Thaw();
  EXPECT_TRUE(
      Eventually([&] { return SendAndWait(link, TestParcel(landing_, 100, 1 << 20)).ok(); }));
  EXPECT_EQ(shelf_.wrong, 0);
  links_ = nullptr;
  other.Stop();
  other.landings.Close(other_landing.slot, [] {});
}

TEST_F(GrpcLinkTest, EndsWhatWaitsWhenNobodyAnswersAtTheAddress) {
  MakeLink();
  // A port that was free a moment ago.
  std::string nobody;
  {
    LinkProxy gone(receiver_.address);
    nobody = gone.address();
  }
  common::v1::Destination destination = receiver_.To({DrawIncarnation(), 5});
  destination.set_address(nobody);
  const absl::StatusOr<Link*> link = links_->To(destination);
  ASSERT_TRUE(link.ok());
  std::vector<Outcome> outcomes(5);
  for (Outcome& outcome : outcomes) {
    (*link)->Send(TestParcel(landing_, 1, 1000), outcome.ticket());
  }
  for (Outcome& outcome : outcomes) EXPECT_TRUE(absl::IsUnavailable(outcome.Wait()));
  // Again and again, with pauses that are bounded.
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(absl::IsUnavailable(SendAndWait(**link, TestParcel(landing_, 1, 1000))));
  }
  EXPECT_EQ(observer_.failed(LinkFailure::kPeerGone), 10);
}

TEST_F(GrpcLinkTest, TellsAnotherLayoutFromALostPeer) {
  LinksOptions options = SenderOptions("sender");
  options.layout_fingerprint = "another";
  links_ = std::make_unique<Links>(options, none_, observer_);
  const absl::Status status = SendAndWait(To(receiver_.address), TestParcel(landing_, 1, 1000));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("layouts"));
}

TEST_F(GrpcLinkTest, RefusesAParcelThatNoStripOfTheReceiverHolds) {
  ReceivingWorker small(/*strips=*/2, absl::Seconds(30), /*strip_bytes=*/1000);
  Shelf shelf;
  const LandingName landing = small.landings.Open(shelf);
  MakeLink();
  const absl::StatusOr<Link*> link = links_->To(small.To(landing));
  ASSERT_TRUE(link.ok());
  const absl::Status status = SendAndWait(**link, TestParcel(landing, 1, 1001));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_TRUE(SendAndWait(**link, TestParcel(landing, 2, 1000)).ok());
  links_ = nullptr;
  small.Stop();
  small.landings.Close(landing.slot, [] {});
}

TEST_F(GrpcLinkTest, EndsEveryTicketWhenItIsClosedInTheMiddle) {
  Link& link = MakeLink();
  std::vector<Outcome> outcomes(200);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    link.Send(TestParcel(landing_, static_cast<int64_t>(i) + 1, 1 << 20), outcomes[i].ticket());
  }
  EXPECT_TRUE(outcomes[3].Wait().ok());
  links_ = nullptr;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    if (i == 3) continue;
    const absl::Status status = outcomes[i].Wait();
    EXPECT_TRUE(status.ok() || absl::IsUnavailable(status)) << status;
  }
  EXPECT_TRUE(Eventually([&] { return receiver_.observer.held_strips == 0; }));
  EXPECT_EQ(shelf_.wrong, 0);
}

TEST_F(GrpcLinkTest, ShowsItsLifeAndItsRate) {
  Link& link = MakeLink();
  ASSERT_EQ(links_->States().size(), 1u);
  EXPECT_EQ(links_->States()[0].link_epoch(), 0u);
  EXPECT_EQ(links_->States()[0].rate(), 0);
  ASSERT_TRUE(SendAndWait(link, TestParcel(landing_, 1, 8 << 20)).ok());
  const control::v1::LinkState state = links_->States()[0];
  EXPECT_EQ(state.peer_id(), "receiver");
  EXPECT_EQ(state.kind(), common::v1::LINK_KIND_HOST);
  EXPECT_GT(state.link_epoch(), 0u);
  EXPECT_GT(state.rate(), 1e6);
  EXPECT_LT(state.rate(), 1e12);
}

TEST_F(GrpcLinkTest, NamesTheFieldOfADestinationThatNamesNobody) {
  MakeLink();
  const auto refuses = [&](auto change, const std::string& field) {
    common::v1::Destination destination = receiver_.To(landing_);
    change(destination);
    const absl::Status status = links_->To(destination).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  };
  refuses([](auto& destination) { destination.clear_worker_id(); }, "destination.worker_id");
  refuses([](auto& destination) { destination.clear_address(); }, "destination.address");
  refuses([](auto& destination) { destination.set_address("unix:/tmp/x"); }, "destination.address");
  refuses([](auto& destination) { destination.mutable_landing()->set_incarnation("short"); },
          "destination.landing.incarnation");
  refuses([](auto& destination) { destination.mutable_landing()->set_slot(0); },
          "destination.landing.slot");
}

}  // namespace
}  // namespace minicpmv
