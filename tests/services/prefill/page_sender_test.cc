#include "services/prefill/page_sender.h"

#include <gtest/gtest.h>

#include <deque>
#include <utility>
#include <vector>

#include "runtime/base/clock.h"

namespace minicpmv::prefill {
namespace {

// Keeps what is sent until the test ends it.
class HeldLink final : public Link {
 public:
  absl::string_view kind() const override { return "held"; }
  void Send(Parcel parcel, Ticket ticket) override {
    parcels.push_back(std::move(parcel));
    tickets.push_back(std::move(ticket));
  }
  void Drop(const LandingName&) override {
    std::deque<Ticket> dropped;
    dropped.swap(tickets);
    for (Ticket& ticket : dropped) ticket(absl::CancelledError("dropped"));
  }
  void EndNext(const absl::Status& status) {
    Ticket ticket = std::move(tickets.front());
    tickets.pop_front();
    ticket(status);
  }

  std::vector<Parcel> parcels;
  std::deque<Ticket> tickets;
};

// Two layers; positions [16, 85) are awaited: five pages, of which the last ends inside.
class PageSenderTest : public ::testing::Test {
 protected:
  PageSenderTest() : page_(kPageBytes) {}

  PageRun RunOf(int64_t layer, int64_t first, int64_t count) const {
    PageRun run{layer, first, count, {}};
    for (int64_t i = 0; i < (count + 15) / 16; ++i) {
      run.pages.push_back({page_.data(), DType::kBF16, Shape{kPageBytes / 2}});
    }
    return run;
  }
  PageSender::Options OptionsOf() {
    PageSender::Options options;
    options.landing.slot = 7;
    options.dtype = DType::kBF16;
    options.layers = 2;
    options.from = 16;
    options.to = 85;
    options.told = [this](const absl::Status& status) { told_.push_back(status); };
    return options;
  }
  absl::AnyInvocable<void()> Count() {
    return [this] { ++sent_; };
  }

  // Two fit into a parcel.
  static constexpr int64_t kPageBytes = 400 << 10;
  std::vector<uint8_t> page_;
  std::vector<absl::Status> told_;
  int sent_ = 0;
  HeldLink link_;
  PageSender sender_{link_, Clock::Monotonic(), OptionsOf()};
};

TEST_F(PageSenderTest, CutsARunIntoParcelsThatCarryItAll) {
  sender_.Send(RunOf(1, 16, 69), Count());
  ASSERT_EQ(link_.parcels.size(), 3u);
  int64_t next = 16;
  for (const Parcel& parcel : link_.parcels) {
    EXPECT_EQ(parcel.label.landing.slot, 7u);
    EXPECT_EQ(parcel.label.kind, ParcelKind::kPages);
    EXPECT_EQ(parcel.label.index, 1);
    EXPECT_EQ(parcel.label.first, next);
    EXPECT_EQ(parcel.label.bytes, parcel.content.size() * kPageBytes);
    EXPECT_EQ((parcel.label.count + 15) / 16, static_cast<int64_t>(parcel.content.size()));
    next += parcel.label.count;
  }
  EXPECT_EQ(next, 85);
}

TEST_F(PageSenderTest, LetsGoOfARunWhenItsLastParcelHasEnded) {
  sender_.Send(RunOf(0, 16, 69), Count());
  link_.EndNext(absl::OkStatus());
  link_.EndNext(absl::UnavailableError("broken"));
  EXPECT_EQ(sent_, 0);
  link_.EndNext(absl::OkStatus());
  EXPECT_EQ(sent_, 1);
  ASSERT_EQ(told_.size(), 3u);
  EXPECT_TRUE(absl::IsUnavailable(told_[1]));
}

TEST_F(PageSenderTest, CountsWhatHasLandedInEveryLayer) {
  EXPECT_EQ(sender_.sums().landed_tokens, 16);
  EXPECT_EQ(sender_.sums().awaited_pages, 10);
  sender_.Send(RunOf(0, 16, 32), Count());
  sender_.Send(RunOf(1, 16, 32), Count());
  link_.EndNext(absl::OkStatus());
  EXPECT_EQ(sender_.sums().landed_tokens, 16);
  link_.EndNext(absl::OkStatus());
  EXPECT_EQ(sender_.sums().landed_tokens, 48);
  sender_.Send(RunOf(1, 48, 37), Count());
  sender_.Send(RunOf(0, 48, 37), Count());
  while (!link_.tickets.empty()) link_.EndNext(absl::OkStatus());
  const PageSender::Sums sums = sender_.sums();
  EXPECT_EQ(sums.landed_tokens, 85);
  EXPECT_EQ(sums.landed_pages, sums.awaited_pages);
  EXPECT_EQ(sums.bytes, 10u * kPageBytes);
  EXPECT_EQ(sent_, 4);
  EXPECT_GE(sums.last_end, sums.first_start);
}

TEST_F(PageSenderTest, SendsNothingMoreOnceDropped) {
  sender_.Send(RunOf(0, 16, 32), Count());
  sender_.Drop();
  EXPECT_EQ(sent_, 1);
  sender_.Send(RunOf(1, 16, 32), Count());
  EXPECT_EQ(sent_, 2);
  EXPECT_EQ(link_.parcels.size(), 1u);
}

}  // namespace
}  // namespace minicpmv::prefill
