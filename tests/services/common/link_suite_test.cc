// What every kind of link promises.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "tests/services/common/link_fixture.h"

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

class LinkSuiteTest : public ::testing::TestWithParam<const char*> {
 protected:
  bool is_local() const { return std::string(GetParam()) == "local"; }

  // All links of one sender; a local one is the receiver itself.
  std::unique_ptr<Links> MakeSender(int number = 0) {
    return std::make_unique<Links>(
        SenderOptions(is_local() ? "receiver" : absl::StrCat("sender-", number)),
        receiver_->landings, observer_);
  }
  Link& LinkOf(Links& links, const LandingName& landing) {
    const absl::StatusOr<Link*> link = links.To(receiver_->To(landing));
    CHECK(link.ok()) << link.status();
    EXPECT_EQ((*link)->kind(), is_local() ? "local" : "grpc");
    return **link;
  }
  void Close(const LandingName& landing) {
    Gate closed;
    receiver_->landings.Close(landing.slot, [&] { closed.Open(); });
    EXPECT_TRUE(closed.Wait());
  }

  CountingObserver observer_;
  std::unique_ptr<ReceivingWorker> receiver_ = std::make_unique<ReceivingWorker>();
};

TEST_P(LinkSuiteTest, DeliversTenThousandParcelsOfFourSendersInOrder) {
  constexpr int kSenders = 4, kLandings = 2, kParcels = 10000;
  constexpr size_t kLargest = size_t{8} << 20;
  std::vector<std::unique_ptr<Links>> senders;
  for (int s = 0; s < kSenders; ++s) senders.push_back(MakeSender(s));
  std::vector<Shelf> shelves(kSenders * kLandings);
  std::vector<LandingName> names;
  for (Shelf& shelf : shelves) names.push_back(receiver_->landings.Open(shelf));

  std::atomic<int64_t> ended{0}, refused{0};
  Gate all;
  std::vector<std::thread> threads;
  for (int s = 0; s < kSenders; ++s) {
    threads.emplace_back([&, s] {
      std::mt19937 random(100 + s);
      std::uniform_real_distribution<double> unit(0, 1);
      for (int i = 1; i <= kParcels / kSenders; ++i) {
        const LandingName& landing = names[s * kLandings + random() % kLandings];
        // Few are large, but some are: up to 8 MiB.
        const double exponent = 23 * std::pow(unit(random), 4);
        const size_t size = i == 1   ? 1
                            : i == 2 ? kLargest
                                     : static_cast<size_t>(std::exp2(exponent));
        const int64_t offset = static_cast<int64_t>(random() % (TestBytes().size() - size + 1));
        LinkOf(*senders[s], landing)
            .Send(TestParcel(landing, i, size, offset), [&](absl::Status status) {
              if (!status.ok()) ++refused;
              if (++ended == kParcels) all.Open();
            });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(all.Wait()) << ended << " of " << kParcels;
  EXPECT_EQ(refused, 0);
  int64_t landed = 0;
  for (const Shelf& shelf : shelves) {
    EXPECT_EQ(shelf.wrong, 0);
    EXPECT_EQ(shelf.disordered, 0);
    EXPECT_EQ(shelf.failed, 0);
    landed += shelf.landed;
  }
  EXPECT_EQ(landed, kParcels);
  EXPECT_EQ(observer_.landed, kParcels);
  EXPECT_EQ(observer_.held_strips, 0);
  EXPECT_EQ(receiver_->observer.held_strips, 0);
  for (const LandingName& name : names) Close(name);
}

TEST_P(LinkSuiteTest, RefusedParcelFailsItsTicketAndNoOther) {
  Shelf shelf;
  shelf.on_place = [](const ParcelLabel& label) {
    return label.index % 3 == 0 ? absl::ResourceExhaustedError("no place now") : absl::OkStatus();
  };
  const LandingName landing = receiver_->landings.Open(shelf);
  const std::unique_ptr<Links> sender = MakeSender();
  std::vector<Outcome> outcomes(60);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    LinkOf(*sender, landing)
        .Send(TestParcel(landing, static_cast<int64_t>(i) + 1, 700 << 10), outcomes[i].ticket());
  }
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const absl::Status status = outcomes[i].Wait();
    if ((i + 1) % 3 == 0) {
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("no place now"));
    } else {
      EXPECT_TRUE(status.ok()) << status;
    }
  }
  EXPECT_EQ(shelf.landed, 40);
  EXPECT_EQ(shelf.wrong, 0);
  EXPECT_EQ(observer_.failed(LinkFailure::kRefused), 20);
  Close(landing);
}

TEST_P(LinkSuiteTest, EndsParcelsForALandingThatIsClosedWithAborted) {
  Shelf shelf, other;
  const LandingName closed = receiver_->landings.Open(shelf);
  const LandingName open = receiver_->landings.Open(other);
  Close(closed);
  const std::unique_ptr<Links> sender = MakeSender();
  Link& link = LinkOf(*sender, open);
  EXPECT_TRUE(absl::IsAborted(SendAndWait(link, TestParcel(closed, 1, 1000))));
  EXPECT_TRUE(absl::IsAborted(SendAndWait(link, TestParcel({closed.incarnation, 77}, 1, 1000))));
  EXPECT_TRUE(SendAndWait(link, TestParcel(open, 1, 1000)).ok());
  EXPECT_EQ(shelf.landed, 0);
  EXPECT_EQ(observer_.failed(LinkFailure::kAbort), 2);
  Close(open);
}

TEST_P(LinkSuiteTest, EndsParcelsForAnEarlierProcessWithAborted) {
  Shelf shelf;
  const LandingName landing = receiver_->landings.Open(shelf);
  const LandingName old = {DrawIncarnation(), landing.slot};
  const std::unique_ptr<Links> sender = MakeSender();
  // By the link to the process of today, and by one to that of yesterday.
  EXPECT_TRUE(absl::IsAborted(SendAndWait(LinkOf(*sender, landing), TestParcel(old, 1, 1000))));
  EXPECT_TRUE(absl::IsAborted(SendAndWait(LinkOf(*sender, old), TestParcel(old, 1, 1000))));
  EXPECT_TRUE(SendAndWait(LinkOf(*sender, landing), TestParcel(landing, 1, 1000)).ok());
  EXPECT_EQ(shelf.landed, 1);
  Close(landing);
}

TEST_P(LinkSuiteTest, RefusesPlacesThatDoNotHoldTheParcel) {
  class Small final : public Shelf {
   public:
    absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override {
      ParcelLabel smaller = label;
      smaller.bytes = label.bytes / 2;
      return Shelf::Place(smaller);
    }
  };
  Small small;
  const LandingName landing = receiver_->landings.Open(small);
  const std::unique_ptr<Links> sender = MakeSender();
  EXPECT_TRUE(
      absl::IsInvalidArgument(SendAndWait(LinkOf(*sender, landing), TestParcel(landing, 1, 1000))));
  EXPECT_EQ(small.failed, 1);
  Close(landing);
}

TEST_P(LinkSuiteTest, RefusesNumbersThatNoLinkCarries) {
  Shelf shelf;
  const LandingName landing = receiver_->landings.Open(shelf);
  const std::unique_ptr<Links> sender = MakeSender();
  const auto send = [&](auto change) {
    Parcel parcel = TestParcel(landing, 1, 1000);
    change(parcel.label);
    return SendAndWait(LinkOf(*sender, landing), std::move(parcel));
  };
  const absl::Status status = send([](ParcelLabel& label) { label.first = -1; });
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("first"));
  EXPECT_TRUE(absl::IsInvalidArgument(send([](auto& label) { label.index = int64_t{1} << 40; })));
  EXPECT_TRUE(absl::IsInvalidArgument(send([](auto& label) { label.count = int64_t{1} << 32; })));
  EXPECT_TRUE(absl::IsInvalidArgument(send([](auto& label) { label.width = -7; })));
  EXPECT_TRUE(absl::IsInvalidArgument(send([](auto& label) { label.bytes = 0; })));
  EXPECT_TRUE(
      absl::IsInvalidArgument(send([](auto& label) { label.bytes = kMaxParcelBytes + 1; })));
  EXPECT_TRUE(SendAndWait(LinkOf(*sender, landing), TestParcel(landing, 1, 1000)).ok());
  Close(landing);
}

TEST_P(LinkSuiteTest, ClosingALandingWaitsForWhatIsBeingPlaced) {
  Shelf shelf;
  LandingName landing;
  Gate closed;
  std::atomic<bool> is_closed{false};
  std::atomic<bool> was_early{false};
  shelf.on_place = [&](const ParcelLabel&) {
    receiver_->landings.Close(landing.slot, [&] {
      is_closed = true;
      closed.Open();
    });
    was_early = is_closed.load();
    return absl::OkStatus();
  };
  shelf.on_landed = [&](const ParcelLabel&, const absl::Status&) {
    was_early = was_early || is_closed;
  };
  landing = receiver_->landings.Open(shelf);
  const std::unique_ptr<Links> sender = MakeSender();
  Link& link = LinkOf(*sender, landing);
  Outcome first, second;
  link.Send(TestParcel(landing, 1, 3 << 20), first.ticket());
  link.Send(TestParcel(landing, 2, 1000), second.ticket());
  EXPECT_TRUE(closed.Wait());
  EXPECT_FALSE(was_early);
  EXPECT_TRUE(first.Wait().ok());
  EXPECT_TRUE(absl::IsAborted(second.Wait()));
  EXPECT_EQ(shelf.landed, 1);
  EXPECT_EQ(receiver_->landings.open(), 0);
}

TEST_P(LinkSuiteTest, TakesBackWhatHasNotBegunToTravel) {
  receiver_ = std::make_unique<ReceivingWorker>(/*strips=*/1);
  Shelf shelf, other;
  Gate reached, go_on;
  shelf.on_place = [&](const ParcelLabel&) {
    reached.Open();
    EXPECT_TRUE(go_on.Wait());
    return absl::OkStatus();
  };
  const LandingName landing = receiver_->landings.Open(shelf);
  const LandingName another = receiver_->landings.Open(other);
  const std::unique_ptr<Links> sender = MakeSender();
  Link& link = LinkOf(*sender, landing);
  Outcome first, second, third, of_other;
  link.Send(TestParcel(landing, 1, 1000), first.ticket());
  ASSERT_TRUE(reached.Wait());
  link.Send(TestParcel(landing, 2, 1000), second.ticket());
  link.Send(TestParcel(another, 1, 1000), of_other.ticket());
  link.Send(TestParcel(landing, 3, 1000), third.ticket());
  link.Drop(landing);
  if (is_local()) go_on.Open();  // whose one thread also tells
  EXPECT_TRUE(absl::IsCancelled(second.Wait()));
  EXPECT_TRUE(absl::IsCancelled(third.Wait()));
  if (!is_local()) {
    EXPECT_TRUE(first.is_open());
    EXPECT_TRUE(of_other.is_open());
    go_on.Open();
  }
  EXPECT_TRUE(first.Wait().ok());
  EXPECT_TRUE(of_other.Wait().ok());
  EXPECT_EQ(shelf.landed, 1);
  Close(landing);
  Close(another);
}

TEST_P(LinkSuiteTest, EndsOpenTicketsWhenItIsClosed) {
  Shelf shelf;
  Gate reached, go_on;
  std::atomic<bool> is_first{true};
  shelf.on_place = [&](const ParcelLabel&) {
    if (!is_first.exchange(false)) return absl::OkStatus();
    reached.Open();
    EXPECT_TRUE(go_on.Wait());
    return absl::OkStatus();
  };
  const LandingName landing = receiver_->landings.Open(shelf);
  std::unique_ptr<Links> sender = MakeSender();
  Link& link = LinkOf(*sender, landing);
  std::vector<Outcome> outcomes(40);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    link.Send(TestParcel(landing, static_cast<int64_t>(i) + 1, 100000), outcomes[i].ticket());
  }
  ASSERT_TRUE(reached.Wait());
  std::thread closing([&] { sender = nullptr; });
  if (is_local()) {
    go_on.Open();  // the parcel that is being copied ends first
    closing.join();
  } else {
    closing.join();
    go_on.Open();
  }
  for (Outcome& outcome : outcomes) {
    const absl::Status status = outcome.Wait();
    EXPECT_TRUE(absl::IsUnavailable(status) || (is_local() && status.ok())) << status;
  }
  Close(landing);
}

TEST_P(LinkSuiteTest, MayBeSentToFromATicket) {
  Shelf shelf;
  const LandingName landing = receiver_->landings.Open(shelf);
  const std::unique_ptr<Links> sender = MakeSender();
  Link& link = LinkOf(*sender, landing);
  Gate done;
  std::function<void(int64_t)> send = [&](int64_t index) {
    link.Send(TestParcel(landing, index, 10), [&, index](absl::Status status) {
      EXPECT_TRUE(status.ok()) << status;
      if (index == 1000) {
        done.Open();
      } else {
        send(index + 1);
      }
    });
  };
  send(1);
  EXPECT_TRUE(done.Wait());
  EXPECT_EQ(shelf.landed, 1000);
  EXPECT_EQ(shelf.disordered, 0);
  Close(landing);
}

TEST_P(LinkSuiteTest, CarriesEveryKindOfLabelAsItIs) {
  std::vector<ParcelLabel> seen;
  Shelf shelf;
  shelf.on_place = [&](const ParcelLabel& label) {
    seen.push_back(label);
    return absl::OkStatus();
  };
  const LandingName landing = receiver_->landings.Open(shelf);
  const std::unique_ptr<Links> sender = MakeSender();
  std::vector<ParcelLabel> sent;
  const auto send = [&](ParcelKind kind, int64_t index, int64_t count, int64_t width, DType dtype) {
    Parcel parcel = TestParcel(landing, index, 480, 48);
    parcel.label.kind = kind;
    parcel.label.count = count;
    parcel.label.width = width;
    parcel.label.dtype = dtype;
    sent.push_back(parcel.label);
    EXPECT_TRUE(SendAndWait(LinkOf(*sender, landing), std::move(parcel)).ok());
  };
  send(ParcelKind::kPixels, 3, 4, 40, DType::kU8);
  send(ParcelKind::kRows, 9, 10, 0, DType::kBF16);
  send(ParcelKind::kPages, 27, 33, 0, DType::kF16);
  send(ParcelKind::kActivations, int64_t{1} << 40, 12, 0, DType::kF32);
  send(ParcelKind::kRows, 4294967295, 1, 0, DType::kI32);
  ASSERT_EQ(seen.size(), sent.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    EXPECT_EQ(seen[i].landing, sent[i].landing) << i;
    EXPECT_EQ(seen[i].kind, sent[i].kind) << i;
    EXPECT_EQ(seen[i].index, sent[i].index) << i;
    EXPECT_EQ(seen[i].first, sent[i].first) << i;
    EXPECT_EQ(seen[i].count, sent[i].count) << i;
    EXPECT_EQ(seen[i].width, sent[i].width) << i;
    EXPECT_EQ(seen[i].dtype, sent[i].dtype) << i;
    EXPECT_EQ(seen[i].bytes, sent[i].bytes) << i;
  }
  Close(landing);
}

INSTANTIATE_TEST_SUITE_P(Links, LinkSuiteTest, ::testing::Values("local", "grpc"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace minicpmv
