#include "runtime/link/landings.h"

#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

namespace minicpmv {
namespace {

constexpr Incarnation kOurs = {1, 2, 3};

// Gives the first label.bytes of what it has.
class OnePlace final : public Landing {
 public:
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override {
    if (on_place) on_place();
    if (!answer.ok()) return answer;
    return std::vector<TensorView>{
        TensorView(bytes_, DType::kU8, Shape{static_cast<int64_t>(label.bytes) - missing})};
  }
  void Landed(const ParcelLabel&, const absl::Status& status) override { told.push_back(status); }

  std::function<void()> on_place;
  absl::Status answer;
  int64_t missing = 0;
  std::vector<absl::Status> told;

 private:
  uint8_t bytes_[64];
};

ParcelLabel LabelFor(const LandingName& landing) {
  ParcelLabel label;
  label.landing = landing;
  label.count = 1;
  label.bytes = 16;
  return label;
}

TEST(LandingsTest, NeverGivesASlotTwiceNorZero) {
  Landings landings(kOurs);
  OnePlace landing;
  uint64_t last = 0;
  for (int i = 0; i < 100; ++i) {
    const LandingName name = landings.Open(landing);
    EXPECT_EQ(name.incarnation, kOurs);
    EXPECT_GT(name.slot, last);
    last = name.slot;
    landings.Close(name.slot, [] {});
  }
  EXPECT_EQ(landings.open(), 0);
}

TEST(LandingsTest, ClosesAtOnceWhereNothingIsBeingPlaced) {
  Landings landings(kOurs);
  OnePlace landing;
  const LandingName name = landings.Open(landing);
  EXPECT_TRUE(landings.Place(LabelFor(name)).ok());
  landings.Landed(LabelFor(name), absl::OkStatus());
  bool closed = false;
  landings.Close(name.slot, [&] { closed = true; });
  EXPECT_TRUE(closed);
  EXPECT_TRUE(absl::IsAborted(landings.Place(LabelFor(name)).status()));
}

TEST(LandingsTest, ClosingWaitsForAllThatIsBeingPlacedAndTakesNothingNew) {
  Landings landings(kOurs);
  OnePlace landing;
  const LandingName name = landings.Open(landing);
  EXPECT_TRUE(landings.Place(LabelFor(name)).ok());
  EXPECT_TRUE(landings.Place(LabelFor(name)).ok());
  bool closed = false;
  landings.Close(name.slot, [&] { closed = true; });
  EXPECT_TRUE(absl::IsAborted(landings.Place(LabelFor(name)).status()));
  landings.Landed(LabelFor(name), absl::OkStatus());
  EXPECT_FALSE(closed);
  EXPECT_EQ(landings.open(), 1);
  landings.Landed(LabelFor(name), absl::UnavailableError("broke"));
  EXPECT_TRUE(closed);
  EXPECT_EQ(landing.told.size(), 2u);
  EXPECT_EQ(landings.open(), 0);
}

TEST(LandingsTest, MayBeClosedWhileALandingIsAsked) {
  Landings landings(kOurs);
  OnePlace landing;
  bool closed = false;
  LandingName name;
  landing.on_place = [&] { landings.Close(name.slot, [&] { closed = true; }); };
  name = landings.Open(landing);
  EXPECT_TRUE(landings.Place(LabelFor(name)).ok());
  EXPECT_FALSE(closed);
  landings.Landed(LabelFor(name), absl::OkStatus());
  EXPECT_TRUE(closed);

  // Also where the landing then refuses.
  closed = false;
  landing.answer = absl::ResourceExhaustedError("no room");
  name = landings.Open(landing);
  EXPECT_TRUE(absl::IsResourceExhausted(landings.Place(LabelFor(name)).status()));
  EXPECT_TRUE(closed);
}

TEST(LandingsTest, RefusesAnotherProcessAndUnknownSlots) {
  Landings landings(kOurs);
  EXPECT_TRUE(absl::IsAborted(landings.Place(LabelFor({kOurs, 0})).status()));
  EXPECT_TRUE(absl::IsAborted(landings.Place(LabelFor({kOurs, 9})).status()));
  EXPECT_TRUE(absl::IsAborted(landings.Place(LabelFor({Incarnation{9}, 1})).status()));
}

TEST(LandingsTest, RefusesPlacesThatDoNotHoldTheParcel) {
  Landings landings(kOurs);
  OnePlace landing;
  landing.missing = 1;
  const LandingName name = landings.Open(landing);
  EXPECT_TRUE(absl::IsInvalidArgument(landings.Place(LabelFor(name)).status()));
  ASSERT_EQ(landing.told.size(), 1u);
  EXPECT_TRUE(absl::IsInvalidArgument(landing.told[0]));
  bool closed = false;
  landings.Close(name.slot, [&] { closed = true; });
  EXPECT_TRUE(closed);
}

TEST(LandingsTest, PlacesFromManyThreadsWhileSlotsCloseAndOpen) {
  constexpr int kThreads = 4, kRounds = 2000;
  Landings landings(kOurs);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kRounds; ++i) {
        OnePlace landing;
        const LandingName name = landings.Open(landing);
        EXPECT_TRUE(landings.Place(LabelFor(name)).ok());
        // A slot of somebody else, open or not.
        EXPECT_FALSE(landings.Place(LabelFor({kOurs, name.slot + 1000000})).ok());
        bool closed = false;
        landings.Close(name.slot, [&] { closed = true; });
        EXPECT_FALSE(closed);
        landings.Landed(LabelFor(name), absl::OkStatus());
        EXPECT_TRUE(closed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(landings.open(), 0);
}

}  // namespace
}  // namespace minicpmv
