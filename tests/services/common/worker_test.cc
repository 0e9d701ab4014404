#include "services/common/worker.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <thread>

#include "services/common/incarnation.h"
#include "services/common/status_proto.h"
#include "tests/services/common/eventually.h"

namespace minicpmv {
namespace {

using common::v1::ROLE_DECODE;
using common::v1::ROLE_PREFILL;
using Metadata = std::multimap<grpc::string_ref, grpc::string_ref>;

class WorkerTest : public ::testing::Test {
 protected:
  static WorkerOptions Options() {
    WorkerOptions options;
    options.address = "127.0.0.1:4000";
    options.admin_address = "127.0.0.1:4001";
    options.roles = {ROLE_PREFILL, ROLE_DECODE};
    return options;
  }
  std::unique_ptr<Worker::Call> Admit(absl::AnyInvocable<void()> hand_back = [] {}) {
    absl::StatusOr<std::unique_ptr<Worker::Call>> call =
        worker_.Admit(ROLE_DECODE, {}, std::move(hand_back));
    EXPECT_TRUE(call.ok()) << call.status();
    return *std::move(call);
  }

  Metrics metrics_;
  Worker worker_{Options(), metrics_};
};

TEST_F(WorkerTest, SaysWhoItIs) {
  EXPECT_EQ(worker_.id(), "worker-127.0.0.1:4000");
  const control::v1::WorkerHello hello = worker_.Hello();
  EXPECT_EQ(hello.worker_id(), worker_.id());
  EXPECT_EQ(hello.address(), "127.0.0.1:4000");
  EXPECT_EQ(hello.admin_address(), "127.0.0.1:4001");
  EXPECT_EQ(hello.incarnation(), BytesOf(worker_.incarnation()));
  EXPECT_EQ(hello.roles_size(), 2);
  EXPECT_GT(hello.pid(), 0u);
  EXPECT_NE(worker_.incarnation(), Worker(Options(), metrics_).incarnation());
}

TEST_F(WorkerTest, GoesFromLoadingOverReadyToDraining) {
  std::vector<control::v1::WorkerState> seen;
  const auto entry = worker_.state_changes().Add([&] { seen.push_back(worker_.state()); });
  EXPECT_EQ(worker_.state(), control::v1::WORKER_STATE_LOADING);
  worker_.SetReady();
  worker_.SetReady();
  worker_.Drain();
  worker_.Drain();
  worker_.SetReady();
  EXPECT_EQ(seen,
            (std::vector{control::v1::WORKER_STATE_READY, control::v1::WORKER_STATE_DRAINING}));
  worker_.WaitUntilDrained();
}

TEST_F(WorkerTest, TakesNothingNewWhileItDrains) {
  worker_.SetReady();
  const auto running = Admit();
  worker_.Drain(absl::Hours(1));
  EXPECT_TRUE(worker_.draining());
  const absl::Status refused = worker_.Admit(ROLE_DECODE, {}, [] {}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_EQ(ReasonOf(refused), "DRAINING");
}

TEST_F(WorkerTest, WaitsForCallsThatRun) {
  bool was_handed_back = false;
  auto call = Admit([&] { was_handed_back = true; });
  worker_.Drain(absl::Hours(1));
  std::thread ending([&] { call.reset(); });
  worker_.WaitUntilDrained();
  ending.join();
  EXPECT_FALSE(was_handed_back);
  EXPECT_EQ(worker_.running(), 0);
}

TEST_F(WorkerTest, HandsBackAfterTheGraceWhatStillRuns) {
  std::unique_ptr<Worker::Call> first, second;
  Told<int> handed_back;
  first = Admit([&] {
    handed_back.Add(1);
    first.reset();  // from within
  });
  second = Admit([&] { handed_back.Add(2); });
  worker_.Drain(absl::ZeroDuration());
  EXPECT_EQ(handed_back.Next(), 1);
  EXPECT_EQ(handed_back.Next(), 2);
  EXPECT_EQ(worker_.running(), 1);
  second.reset();
  worker_.WaitUntilDrained();
  EXPECT_EQ(ReasonOf(Worker::HandedBack()), "DRAINING");
  EXPECT_TRUE(absl::IsAborted(Worker::HandedBack()));
}

TEST_F(WorkerTest, ShortensTheGraceAndNeverLengthensIt) {
  Told<bool> handed_back;
  const auto call = Admit([&] { handed_back.Add(true); });
  worker_.Drain(absl::InfiniteDuration());
  worker_.Drain(absl::Hours(1));
  EXPECT_TRUE(handed_back.empty());
  worker_.Drain(absl::ZeroDuration());
  EXPECT_TRUE(handed_back.Next().has_value());
}

TEST_F(WorkerTest, HandsNothingBackOnceACallHasEnded) {
  for (int i = 0; i < 200; ++i) {
    Worker worker(Options(), metrics_);
    auto alive = std::make_unique<std::atomic<bool>>(true);
    auto call = worker.Admit(ROLE_DECODE, {}, [&] { EXPECT_TRUE(alive->load()); });
    ASSERT_TRUE(call.ok());
    std::thread draining([&] { worker.Drain(absl::ZeroDuration()); });
    call->reset();
    alive.reset();
    draining.join();
  }
}

TEST_F(WorkerTest, CountsCallsByRoleAndByRouter) {
  const std::string name = std::string(kRouterMetadata), router(16, '\x5a');
  std::string key_hex;
  for (int i = 0; i < 16; ++i) key_hex += "5a";
  const Metadata metadata = {{name, key_hex}};
  const auto one = worker_.Admit(ROLE_PREFILL, metadata, [] {});
  const auto two = worker_.Admit(ROLE_DECODE, metadata, [] {});
  auto other = worker_.Admit(ROLE_DECODE, {}, [] {});
  ASSERT_TRUE(one.ok() && two.ok() && other.ok());
  const auto entry = worker_.board().Add([](control::v1::WorkerLoad& load) {
    RoleLoadOf(load, ROLE_DECODE).set_outstanding(7);
    load.mutable_pages()->set_free(5);
  });
  control::v1::WorkerLoad load = worker_.Load(router);
  EXPECT_EQ(load.opened_calls(), 2u);
  EXPECT_EQ(load.roles_size(), 2);
  EXPECT_EQ(RoleLoadOf(load, ROLE_PREFILL).running(), 1u);
  EXPECT_EQ(RoleLoadOf(load, ROLE_DECODE).running(), 2u);
  EXPECT_EQ(RoleLoadOf(load, ROLE_DECODE).outstanding(), 7u);
  EXPECT_EQ(load.pages().free(), 5u);
  EXPECT_EQ(worker_.Load().opened_calls(), 3u);
  other->reset();
  EXPECT_EQ(worker_.running(), 2);
  worker_.ForgetCalls(router);
  EXPECT_EQ(worker_.Load(router).opened_calls(), 0u);
}

}  // namespace
}  // namespace minicpmv
