#include "services/router/placement.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace minicpmv::router {
namespace {

using common::v1::ROLE_DECODE;
using common::v1::ROLE_PREFILL;
using common::v1::ROLE_VISION;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

WorkerView Worker(std::string id, std::vector<common::v1::Role> roles) {
  WorkerView worker;
  worker.name = {id, absl::StrCat(id, ":1"), absl::StrCat("incarnation of ", id)};
  worker.numerics_class = "cpu";
  for (const common::v1::Role role : roles) worker.roles[role].rate = 100;
  worker.pages = worker.all_pages = 1000;
  return worker;
}

Job JobOf(int64_t tokens) {
  Job job;
  job.tokens = tokens;
  job.new_tokens = 100;
  return job;
}

TEST(PlacementTest, PassesOverADecodeWorkerWithoutRoom) {
  FleetSnapshot fleet = {
      {Worker("a", {ROLE_DECODE}), Worker("b", {ROLE_DECODE}), Worker("c", {ROLE_PREFILL})}};
  fleet.workers[0].pages = 10;
  for (uint64_t beginning = 0; beginning < 20; ++beginning) {
    Job job = JobOf(800);
    job.beginning = beginning;
    const auto placed = Place(job, fleet);
    ASSERT_TRUE(placed.ok()) << placed.status();
    EXPECT_EQ(placed->decode.id, "b");
    EXPECT_EQ(placed->prefill.id, "c");
    EXPECT_EQ(placed->decode_work.pages, (800 + 100 + 15) / 16);
    EXPECT_EQ(placed->prefill_work.units, 800);
  }
}

TEST(PlacementTest, TakesTheWorkerThatWillBeDoneFirst) {
  FleetSnapshot fleet = {
      {Worker("a", {ROLE_DECODE}), Worker("b", {ROLE_PREFILL}), Worker("c", {ROLE_PREFILL})}};
  fleet.workers[1].roles[ROLE_PREFILL].rate = 10;  // what the other one has to do is done sooner
  fleet.workers[2].roles[ROLE_PREFILL].outstanding = 500;
  EXPECT_EQ(Place(JobOf(400), fleet)->prefill.id, "c");
}

TEST(PlacementTest, GivesEqualQuestionsEqualAnswers) {
  const FleetSnapshot fleet = {{Worker("a", {ROLE_DECODE}), Worker("b", {ROLE_DECODE}),
                                Worker("c", {ROLE_PREFILL}), Worker("d", {ROLE_PREFILL})}};
  EXPECT_EQ(Place(JobOf(100), fleet)->decode.id, Place(JobOf(100), fleet)->decode.id);
}

TEST(PlacementTest, BringsConversationsBackUnlessTheirWorkerIsBusy) {
  FleetSnapshot fleet = {
      {Worker("a", {ROLE_DECODE}), Worker("b", {ROLE_DECODE}), Worker("c", {ROLE_PREFILL})}};
  std::set<std::string> seen;
  for (uint64_t beginning = 0; beginning < 40; ++beginning) {
    Job first = JobOf(100), second = JobOf(500);
    first.beginning = second.beginning = beginning;
    const std::string own = Place(first, fleet)->decode.id;
    seen.insert(own);
    EXPECT_EQ(Place(second, fleet)->decode.id, own);

    FleetSnapshot busy = fleet;
    busy.workers[own == "a" ? 0 : 1].roles[ROLE_DECODE].calls = 5;
    EXPECT_NE(Place(second, busy)->decode.id, own);
  }
  EXPECT_THAT(seen, SizeIs(2));
}

TEST(PlacementTest, AsksThoseThatFailedOnlyWhenNobodyElseIsLeft) {
  FleetSnapshot fleet = {
      {Worker("a", {ROLE_DECODE}), Worker("b", {ROLE_DECODE}), Worker("c", {ROLE_PREFILL})}};
  Job job = JobOf(100);
  job.failed = {"incarnation of a", "incarnation of c"};
  EXPECT_EQ(Place(job, fleet)->decode.id, "b");
  EXPECT_EQ(Place(job, fleet)->prefill.id, "c");
}

TEST(PlacementTest, GoesOnInTheNumericsClassInWhichItBegan) {
  FleetSnapshot fleet = {
      {Worker("a", {ROLE_DECODE}), Worker("b", {ROLE_DECODE}), Worker("c", {ROLE_PREFILL})}};
  fleet.workers[1].numerics_class = "gpu";
  Job job = JobOf(100);
  job.numerics_class = "gpu";
  EXPECT_EQ(Place(job, fleet)->decode.id, "b");
  fleet.workers[1].pages = 0;
  EXPECT_EQ(Place(job, fleet)->decode.id, "a");
}

TEST(PlacementTest, CountsNoPagesTwiceWhereALandingIsAdopted) {
  const FleetSnapshot fleet = {{Worker("a", {ROLE_PREFILL, ROLE_DECODE})}};
  const auto placed = Place(JobOf(100), fleet);
  EXPECT_EQ(placed->decode.id, placed->prefill.id);
  EXPECT_EQ(placed->prefill_work.pages, 0);
}

TEST(PlacementTest, PassesOverAWorkerThatHasJustRefused) {
  FleetSnapshot fleet = {{Worker("a", {ROLE_DECODE}), Worker("c", {ROLE_PREFILL})}};
  fleet.workers[0].roles[ROLE_DECODE].is_full = true;
  EXPECT_TRUE(absl::IsResourceExhausted(Place(JobOf(100), fleet).status()));
}

TEST(PlacementTest, WaitsForMorePagesWhereFewWereRefused) {
  FleetSnapshot fleet = {{Worker("a", {ROLE_PREFILL, ROLE_DECODE})}};
  Job job = JobOf(160);
  fleet.workers[0].pages = 20;
  EXPECT_TRUE(Place(job, fleet).ok());
  job.spare_pages = 7;
  EXPECT_TRUE(absl::IsResourceExhausted(Place(job, fleet).status()));
  fleet.workers[0].pages = fleet.workers[0].all_pages = 20;  // there will never be more
  EXPECT_TRUE(Place(job, fleet).ok());
}

TEST(PlacementTest, SaysWhyThereIsNoPlace) {
  FleetSnapshot fleet = {{Worker("a", {ROLE_DECODE})}};
  EXPECT_TRUE(absl::IsUnavailable(Place(JobOf(100), fleet).status()));
  EXPECT_THAT(std::string(Place(JobOf(100), fleet).status().message()), HasSubstr("prefill"));
  fleet.workers.push_back(Worker("b", {ROLE_PREFILL}));
  Job job = JobOf(100);
  job.has_media = true;
  EXPECT_THAT(std::string(Place(job, fleet).status().message()), HasSubstr("vision"));
  fleet.workers[0].pages = 3;
  EXPECT_TRUE(absl::IsResourceExhausted(Place(JobOf(100), fleet).status()));
  fleet.workers[0].max_sequence_tokens = 50;
  EXPECT_TRUE(absl::IsOutOfRange(Place(JobOf(100), fleet).status()));
}

TEST(PlacementTest, AsksAnEmptyWorkerThoughHeadroomDoesNotFit) {
  FleetSnapshot fleet = {{Worker("a", {ROLE_PREFILL, ROLE_DECODE})}};
  fleet.workers[0].pages = fleet.workers[0].all_pages = 10;
  EXPECT_TRUE(Place(JobOf(140), fleet).ok());
}

TEST(HomeTest, StaysWhenWorkersComeAndOthersGo) {
  FleetSnapshot fleet;
  for (int i = 0; i < 4; ++i) {
    fleet.workers.push_back(Worker(absl::StrCat("v", i), {ROLE_VISION}));
  }
  FleetSnapshot fewer = fleet;
  fewer.workers.pop_back();
  std::map<std::string, int> homes;
  for (int i = 0; i < 400; ++i) {
    const std::string digest = absl::StrCat("digest ", i);
    const std::string home = HomeOf("scope", digest, {}, fleet)->id;
    ++homes[home];
    const std::string then = HomeOf("scope", digest, {}, fewer)->id;
    EXPECT_TRUE(then == home || home == "v3") << then;
  }
  ASSERT_THAT(homes, SizeIs(4));
  for (const auto& [id, media] : homes) EXPECT_GT(media, 50) << id;
}

TEST(HomeTest, IsElsewhereForAnotherTenantAndAfterAFailure) {
  FleetSnapshot fleet = {{Worker("a", {ROLE_VISION}), Worker("b", {ROLE_VISION})}};
  int moved = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string digest = absl::StrCat("digest ", i);
    const WorkerName home = *HomeOf("one", digest, {}, fleet);
    moved += home.id != HomeOf("two", digest, {}, fleet)->id;
    EXPECT_NE(HomeOf("one", digest, {home.incarnation}, fleet)->id, home.id);
  }
  EXPECT_GT(moved, 20);
  EXPECT_TRUE(absl::IsUnavailable(HomeOf("one", "digest", {}, FleetSnapshot()).status()));
}

TEST(ShareSlicesTest, SharesTenSlicesOverTwoWorkers) {
  const FleetSnapshot fleet = {{Worker("a", {ROLE_VISION}), Worker("b", {ROLE_VISION})}};
  const auto shares =
      ShareSlices({{fleet.workers[0].name, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}}, {}, fleet);
  ASSERT_THAT(shares, SizeIs(1));
  ASSERT_THAT(shares[0], SizeIs(2));
  EXPECT_EQ(shares[0][0].worker.id, "a");
  EXPECT_THAT(shares[0][0].spans, SizeIs(5));
  EXPECT_THAT(shares[0][1].spans, SizeIs(5));
}

TEST(ShareSlicesTest, LeavesASingleSliceAtHomeAndTheHomeAtLeastOne) {
  FleetSnapshot fleet = {{Worker("a", {ROLE_VISION}), Worker("b", {ROLE_VISION})}};
  fleet.workers[0].roles[ROLE_VISION].outstanding = 60;
  const auto shares =
      ShareSlices({{fleet.workers[0].name, {7}}, {fleet.workers[0].name, {8, 9}}}, {}, fleet);
  ASSERT_THAT(shares[0], SizeIs(1));
  EXPECT_THAT(shares[0][0].spans, ElementsAre(7));
  ASSERT_THAT(shares[1], SizeIs(2));
  EXPECT_THAT(shares[1][0].spans, ElementsAre(8));
  EXPECT_EQ(shares[1][1].worker.id, "b");
}

TEST(ShareSlicesTest, LeavesOutWhoIsFullOrHasFailed) {
  FleetSnapshot fleet = {
      {Worker("a", {ROLE_VISION}), Worker("b", {ROLE_VISION}), Worker("c", {ROLE_VISION})}};
  fleet.workers[1].roles[ROLE_VISION].is_full = true;
  const auto shares =
      ShareSlices({{fleet.workers[0].name, {0, 1, 2, 3}}}, {"incarnation of c"}, fleet);
  ASSERT_THAT(shares[0], SizeIs(1));
  EXPECT_THAT(shares[0][0].spans, ElementsAre(0, 1, 2, 3));
}

TEST(ShareSlicesTest, GivesAFasterWorkerMore) {
  FleetSnapshot fleet = {{Worker("a", {ROLE_VISION}), Worker("b", {ROLE_VISION})}};
  fleet.workers[1].roles[ROLE_VISION].rate = 300;
  const auto shares = ShareSlices({{fleet.workers[0].name, {0, 1, 2, 3, 4, 5, 6, 7}}}, {}, fleet);
  EXPECT_LT(shares[0][0].spans.size(), shares[0][1].spans.size());
}

}  // namespace
}  // namespace minicpmv::router
