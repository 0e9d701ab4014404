#include "services/router/fleet.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/durations.h"
#include "services/router/virtual_loop.h"

namespace minicpmv::router {
namespace {

using common::v1::ROLE_DECODE;
using common::v1::ROLE_PREFILL;
using common::v1::ROLE_VISION;

class Stream final : public FleetStream {
 public:
  void Order(const control::v1::Order& order) override { orders.push_back(order); }
  void End(const absl::Status& status) override { end = status; }
  std::vector<control::v1::Order> orders;
  std::optional<absl::Status> end;
};

control::v1::WorkerHello Hello(const std::string& id, char life = '1',
                               common::v1::Role role = ROLE_DECODE) {
  control::v1::WorkerHello hello;
  hello.set_worker_id(id);
  hello.set_incarnation(std::string(16, life));
  hello.set_address("host:1");
  hello.add_roles(role);
  hello.mutable_model()->set_model_fingerprint(std::string(32, 'm'));
  hello.mutable_model()->set_layout_fingerprint(std::string(32, 'l'));
  return hello;
}

control::v1::Heartbeat Report(common::v1::Role role = ROLE_DECODE, uint64_t opened = 0) {
  control::v1::Heartbeat heartbeat;
  control::v1::WorkerLoad& load = *heartbeat.mutable_load();
  load.set_state(control::v1::WORKER_STATE_READY);
  load.mutable_pages()->set_free(70);
  load.mutable_pages()->set_cached(30);
  load.add_roles()->set_role(role);
  load.set_opened_calls(opened);
  return heartbeat;
}

WorkerName NameOf(const control::v1::WorkerHello& hello) {
  return {hello.worker_id(), hello.address(), hello.incarnation()};
}

class FleetTest : public ::testing::Test {
 protected:
  Fleet::StreamId Join(const control::v1::WorkerHello& hello, Stream& stream) {
    const auto joined = fleet_.Join(hello, stream);
    EXPECT_TRUE(joined.ok()) << joined.status();
    return *joined;
  }
  Fleet::StreamId JoinReady(const control::v1::WorkerHello& hello, Stream& stream) {
    const Fleet::StreamId id = Join(hello, stream);
    EXPECT_TRUE(fleet_.Report(id, Report(common::v1::Role(hello.roles(0)))).ok());
    return id;
  }

  VirtualLoop loop_;
  Fleet fleet_{{absl::Seconds(1), "", ""}, loop_};
  Stream a_, b_;
};

TEST_F(FleetTest, LetsTheFirstWorkerDecideWhatIsServed) {
  Join(Hello("a"), a_);
  control::v1::WorkerHello other = Hello("b");
  other.mutable_model()->set_model_fingerprint(std::string(32, 'x'));
  EXPECT_TRUE(absl::IsFailedPrecondition(fleet_.Join(other, b_).status()));
  other = Hello("b");
  other.mutable_model()->set_layout_fingerprint(std::string(32, 'x'));
  EXPECT_TRUE(absl::IsFailedPrecondition(fleet_.Join(other, b_).status()));
  EXPECT_EQ(fleet_.model_fingerprint(), std::string(32, 'm'));
}

TEST_F(FleetTest, LetsTheNextOneDecideWhenAllHaveLeft) {
  fleet_.Leave(Join(Hello("a"), a_));
  control::v1::WorkerHello other = Hello("b");
  other.mutable_model()->set_layout_fingerprint(std::string(32, 'x'));
  EXPECT_TRUE(fleet_.Join(other, b_).ok());
}

TEST_F(FleetTest, HoldsWorkersToTheModelItWasGiven) {
  Fleet fleet({absl::Seconds(1), std::string(32, 'x'), ""}, loop_);
  EXPECT_TRUE(absl::IsFailedPrecondition(fleet.Join(Hello("a"), a_).status()));
}

TEST_F(FleetTest, PlacesNothingAtAWorkerBeforeItIsReadyOrWhileItDrains) {
  const Fleet::StreamId stream = Join(Hello("a"), a_);
  EXPECT_TRUE(fleet_.Snapshot().workers.empty());
  EXPECT_TRUE(fleet_.Report(stream, Report()).ok());
  ASSERT_EQ(fleet_.Snapshot().workers.size(), 1u);
  EXPECT_EQ(fleet_.Snapshot().workers[0].pages, 100);
  control::v1::Heartbeat draining = Report();
  draining.mutable_load()->set_state(control::v1::WORKER_STATE_DRAINING);
  EXPECT_TRUE(fleet_.Report(stream, draining).ok());
  EXPECT_TRUE(fleet_.Snapshot().workers.empty());
}

TEST_F(FleetTest, BelievesTheNewestStreamOfAnId) {
  const Fleet::StreamId old_stream = JoinReady(Hello("a", '1'), a_);
  int lost = 0;
  const auto call = fleet_.Open(NameOf(Hello("a", '1')), ROLE_DECODE, {}, [&] { ++lost; });
  JoinReady(Hello("a", '2'), b_);
  loop_.RunFor(absl::ZeroDuration());
  ASSERT_TRUE(a_.end.has_value());
  EXPECT_TRUE(absl::IsAborted(*a_.end));
  EXPECT_EQ(lost, 1);
  fleet_.Leave(old_stream);
  ASSERT_EQ(fleet_.Snapshot().workers.size(), 1u);
  EXPECT_EQ(fleet_.Snapshot().workers[0].name.incarnation, std::string(16, '2'));
}

TEST_F(FleetTest, LosesAWorkerThatIsSilentUntilItSpeaksAgain) {
  const Fleet::StreamId stream = JoinReady(Hello("a"), a_);
  int lost = 0;
  const auto call = fleet_.Open(NameOf(Hello("a")), ROLE_DECODE, {}, [&] { ++lost; });
  loop_.RunFor(absl::Milliseconds(900));
  EXPECT_EQ(lost, 0);
  loop_.RunFor(absl::Milliseconds(400));
  EXPECT_EQ(lost, 1);
  EXPECT_FALSE(fleet_.IsUp(NameOf(Hello("a"))));
  EXPECT_EQ(fleet_.List({}).workers(0).load().state(), control::v1::WORKER_STATE_LOST);
  EXPECT_TRUE(fleet_.MissingSince(ROLE_DECODE).has_value());

  EXPECT_TRUE(fleet_.Report(stream, Report()).ok());
  EXPECT_TRUE(fleet_.IsUp(NameOf(Hello("a"))));
  EXPECT_FALSE(fleet_.MissingSince(ROLE_DECODE).has_value());
  EXPECT_EQ(lost, 1);
}

TEST_F(FleetTest, LosesAWorkerWhoseStepTakesFarLongerThanPredicted) {
  Fleet fleet({std::nullopt, "", ""}, loop_);
  const Fleet::StreamId stream = *fleet.Join(Hello("a"), a_);
  control::v1::Heartbeat heartbeat = Report();
  control::v1::RoleLoad& role = *heartbeat.mutable_load()->mutable_roles(0);
  *role.mutable_predicted_step() = ToProto(absl::Seconds(10));
  *role.mutable_step_age() = ToProto(absl::Seconds(44));
  EXPECT_TRUE(fleet.Report(stream, heartbeat).ok());
  EXPECT_TRUE(fleet.IsUp(NameOf(Hello("a"))));
  *role.mutable_step_age() = ToProto(absl::Seconds(46));
  EXPECT_TRUE(fleet.Report(stream, heartbeat).ok());
  EXPECT_FALSE(fleet.IsUp(NameOf(Hello("a"))));
}

TEST_F(FleetTest, TellsCallsOfAWorkerThatHasLeft) {
  const Fleet::StreamId stream = JoinReady(Hello("a"), a_);
  int lost = 0;
  const auto call = fleet_.Open(NameOf(Hello("a")), ROLE_DECODE, {}, [&] { ++lost; });
  auto closed = fleet_.Open(NameOf(Hello("a")), ROLE_DECODE, {}, [&] { lost += 100; });
  fleet_.Leave(stream);
  closed = nullptr;
  EXPECT_EQ(lost, 0);  // later, from the loop
  loop_.RunFor(absl::ZeroDuration());
  EXPECT_EQ(lost, 1);
  const auto late = fleet_.Open(NameOf(Hello("a")), ROLE_DECODE, {}, [&] { ++lost; });
  loop_.RunFor(absl::ZeroDuration());
  EXPECT_EQ(lost, 2);
}

TEST_F(FleetTest, AddsWhatItHasOpenedSinceTheLastReport) {
  const Fleet::StreamId stream = JoinReady(Hello("a"), a_);
  auto first = fleet_.Open(NameOf(Hello("a")), ROLE_DECODE, {1, 20}, [] {});
  const auto second = fleet_.Open(NameOf(Hello("a")), ROLE_DECODE, {1, 30}, [] {});
  EXPECT_EQ(fleet_.Snapshot().workers[0].pages, 50);
  EXPECT_EQ(fleet_.Snapshot().workers[0].roles.at(ROLE_DECODE).calls, 2);
  // The report has seen the first one.
  EXPECT_TRUE(fleet_.Report(stream, Report(ROLE_DECODE, 1)).ok());
  EXPECT_EQ(fleet_.Snapshot().workers[0].pages, 70);
  EXPECT_EQ(fleet_.Snapshot().workers[0].roles.at(ROLE_DECODE).own_calls, 2);
  first = nullptr;
  EXPECT_EQ(fleet_.Snapshot().workers[0].pages, 70);
  EXPECT_EQ(fleet_.Snapshot().workers[0].roles.at(ROLE_DECODE).own_calls, 1);
  // A worker that counts otherwise is believed in the end.
  EXPECT_TRUE(fleet_.Report(stream, Report(ROLE_DECODE, 1)).ok());
  EXPECT_EQ(fleet_.Snapshot().workers[0].pages, 100);
}

TEST_F(FleetTest, TakesOffWhatHasEndedSinceTheLastReport) {
  const Fleet::StreamId id = JoinReady(Hello("a", '1', ROLE_VISION), a_);
  const auto vision = [&] { return fleet_.Snapshot().workers.front().roles.at(ROLE_VISION); };
  auto first = fleet_.Open(NameOf(Hello("a")), ROLE_VISION, {10, 0}, [] {});
  auto second = fleet_.Open(NameOf(Hello("a")), ROLE_VISION, {30, 0}, [] {});
  auto third = fleet_.Open(NameOf(Hello("a")), ROLE_VISION, {7, 0}, [] {});
  // It knows of two of them, and has done half of them.
  control::v1::Heartbeat report = Report(ROLE_VISION, /*opened=*/2);
  report.mutable_load()->mutable_roles(0)->set_running(2);
  report.mutable_load()->mutable_roles(0)->set_outstanding(20);
  ASSERT_TRUE(fleet_.Report(id, report).ok());
  EXPECT_EQ(vision().calls, 3);
  EXPECT_EQ(vision().outstanding, 20 + 7);
  first.reset();
  EXPECT_EQ(vision().calls, 2);
  EXPECT_EQ(vision().outstanding, 15 + 7);
  third.reset();  // nobody has reported it
  EXPECT_EQ(vision().outstanding, 15);
  second.reset();
  EXPECT_EQ(vision().calls, 0);
  EXPECT_EQ(vision().outstanding, 0);
  // The next report knows better.
  report.mutable_load()->mutable_roles(0)->set_running(1);
  report.mutable_load()->mutable_roles(0)->set_outstanding(4);
  ASSERT_TRUE(fleet_.Report(id, report).ok());
  EXPECT_EQ(vision().calls, 1);
  EXPECT_EQ(vision().outstanding, 4);
}

TEST_F(FleetTest, LeavesToAWorkerWhatOthersHaveAskedOfIt) {
  const Fleet::StreamId id = JoinReady(Hello("a", '1', ROLE_VISION), a_);
  auto call = fleet_.Open(NameOf(Hello("a")), ROLE_VISION, {10, 0}, [] {});
  control::v1::Heartbeat report = Report(ROLE_VISION, /*opened=*/1);
  report.mutable_load()->mutable_roles(0)->set_running(3);
  report.mutable_load()->mutable_roles(0)->set_outstanding(50);
  ASSERT_TRUE(fleet_.Report(id, report).ok());
  call.reset();
  const auto& vision = fleet_.Snapshot().workers.front().roles.at(ROLE_VISION);
  EXPECT_EQ(vision.calls, 2);
  EXPECT_EQ(vision.outstanding, 40);
}

TEST_F(FleetTest, CountsAnewForALifeThatDialsAgain) {
  const Fleet::StreamId stream = JoinReady(Hello("a"), a_);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(fleet_.Report(stream, Report()).ok());
  int lost = 0;
  const auto call = fleet_.Open(NameOf(Hello("a")), ROLE_DECODE, {1, 20}, [&] { ++lost; });
  EXPECT_EQ(fleet_.Snapshot().workers[0].pages, 80);
  JoinReady(Hello("a"), b_);
  loop_.RunFor(absl::ZeroDuration());
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(fleet_.Snapshot().workers[0].pages, 100);
}

TEST_F(FleetTest, IntroducesThoseWhoWillSendToEachOther) {
  JoinReady(Hello("p", '1', ROLE_PREFILL), a_);
  EXPECT_TRUE(a_.orders.empty());
  JoinReady(Hello("d", '1', ROLE_DECODE), b_);
  ASSERT_EQ(a_.orders.size(), 1u);
  EXPECT_EQ(a_.orders[0].meet().worker_id(), "d");
  EXPECT_EQ(a_.orders[0].meet().address(), "host:1");
  EXPECT_TRUE(b_.orders.empty());
}

TEST_F(FleetTest, AsksAWorkerThatRefusedOnlyAfterItsNextReport) {
  const Fleet::StreamId stream = JoinReady(Hello("a"), a_);
  fleet_.NoteRefusal(NameOf(Hello("a")), ROLE_DECODE);
  EXPECT_TRUE(fleet_.Snapshot().workers[0].roles.at(ROLE_DECODE).is_full);
  EXPECT_TRUE(fleet_.Report(stream, Report()).ok());
  EXPECT_FALSE(fleet_.Snapshot().workers[0].roles.at(ROLE_DECODE).is_full);
}

TEST_F(FleetTest, KnowsWhichRolesAreMissingAndSinceWhen) {
  const absl::Time start = loop_.Now();
  EXPECT_EQ(fleet_.MissingSince(ROLE_VISION), start);
  const Fleet::StreamId stream = JoinReady(Hello("v", '1', ROLE_VISION), a_);
  EXPECT_EQ(fleet_.MissingSince(ROLE_VISION), std::nullopt);
  EXPECT_EQ(fleet_.MissingSince(ROLE_PREFILL), start);
  loop_.RunFor(absl::Milliseconds(500));
  fleet_.Leave(stream);
  EXPECT_EQ(fleet_.MissingSince(ROLE_VISION), start + absl::Milliseconds(500));
}

TEST_F(FleetTest, OrdersAWorkerToDrain) {
  JoinReady(Hello("a"), a_);
  EXPECT_TRUE(absl::IsNotFound(fleet_.Drain("b", std::nullopt)));
  EXPECT_TRUE(fleet_.Drain("a", absl::Seconds(3)).ok());
  ASSERT_EQ(a_.orders.size(), 1u);
  EXPECT_EQ(a_.orders[0].drain().grace().seconds(), 3);
  EXPECT_TRUE(fleet_.Snapshot().workers.empty());
}

TEST_F(FleetTest, ListsWorkersByIdAndRole) {
  JoinReady(Hello("b", '1', ROLE_VISION), b_);
  JoinReady(Hello("a"), a_);
  ASSERT_EQ(fleet_.List({}).workers_size(), 2);
  EXPECT_EQ(fleet_.List({}).workers(0).hello().worker_id(), "a");
  control::v1::ListWorkersRequest request;
  request.add_roles(ROLE_VISION);
  ASSERT_EQ(fleet_.List(request).workers_size(), 1);
  EXPECT_EQ(fleet_.List(request).workers(0).hello().worker_id(), "b");
}

TEST_F(FleetTest, RefusesAHelloThatCannotBe) {
  const auto refuses = [&](const std::function<void(control::v1::WorkerHello&)>& spoil) {
    control::v1::WorkerHello hello = Hello("a");
    spoil(hello);
    return absl::IsInvalidArgument(fleet_.Join(hello, a_).status());
  };
  EXPECT_TRUE(refuses([](auto& hello) { hello.set_worker_id(""); }));
  EXPECT_TRUE(refuses([](auto& hello) { hello.set_worker_id(std::string(300, 'x')); }));
  EXPECT_TRUE(refuses([](auto& hello) { hello.set_incarnation("short"); }));
  EXPECT_TRUE(refuses([](auto& hello) { hello.set_address(""); }));
  EXPECT_TRUE(refuses([](auto& hello) { hello.clear_roles(); }));
  EXPECT_TRUE(refuses([](auto& hello) { hello.add_roles(ROLE_DECODE); }));
  EXPECT_TRUE(refuses([](auto& hello) { hello.set_roles(0, static_cast<common::v1::Role>(9)); }));
  EXPECT_TRUE(refuses([](auto& hello) { hello.clear_model(); }));
  EXPECT_TRUE(refuses([](auto& hello) { hello.set_first_transfer_version(5); }));
}

TEST_F(FleetTest, RefusesALoadThatCannotBe) {
  const Fleet::StreamId stream = Join(Hello("a"), a_);
  const auto refuses = [&](const std::function<void(control::v1::WorkerLoad&)>& spoil) {
    control::v1::Heartbeat heartbeat = Report();
    spoil(*heartbeat.mutable_load());
    return absl::IsInvalidArgument(fleet_.Report(stream, heartbeat));
  };
  EXPECT_TRUE(refuses([](auto& load) { load.clear_state(); }));
  EXPECT_TRUE(refuses([](auto& load) { load.set_state(control::v1::WORKER_STATE_LOST); }));
  EXPECT_TRUE(refuses([](auto& load) { load.mutable_roles(0)->set_role(ROLE_VISION); }));
  EXPECT_TRUE(refuses([](auto& load) { load.add_roles()->set_role(ROLE_DECODE); }));
  EXPECT_TRUE(refuses([](auto& load) { load.mutable_roles(0)->set_rate(NAN); }));
  EXPECT_TRUE(refuses([](auto& load) { load.mutable_roles(0)->set_rate(-1); }));
  EXPECT_TRUE(
      refuses([](auto& load) { load.mutable_roles(0)->set_outstanding(uint64_t{1} << 63); }));
  EXPECT_TRUE(refuses([](auto& load) {
    load.mutable_roles(0)->mutable_step_age()->set_seconds(std::numeric_limits<int64_t>::max());
  }));
  EXPECT_TRUE(refuses([](auto& load) { load.add_links()->set_rate(INFINITY); }));
}

}  // namespace
}  // namespace minicpmv::router
