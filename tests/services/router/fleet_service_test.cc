#include "services/router/fleet_service.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "services/router/thread_loop.h"
#include "tests/services/router/fleet_member.h"

namespace minicpmv::router {
namespace {

class FleetServiceTest : public ::testing::Test {
 protected:
  FleetServiceTest() {
    loop_.Run([this] { fleet_ = std::make_unique<Fleet>(FleetOptions(), loop_); });
    service_ = std::make_unique<FleetService>(*fleet_, loop_, std::string(16, 'r'));
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = control::v1::FleetService::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
  }
  ~FleetServiceTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    loop_.Run([this] { fleet_ = nullptr; });
  }

  control::v1::ListWorkersResponse List() {
    grpc::ClientContext context;
    control::v1::ListWorkersResponse response;
    EXPECT_TRUE(stub_->ListWorkers(&context, {}, &response).ok());
    return response;
  }
  // Lists until the one worker is in that state.
  bool Becomes(control::v1::WorkerState state) {
    const absl::Time end = absl::Now() + absl::Seconds(30);
    while (absl::Now() < end) {
      const auto list = List();
      if (list.workers_size() == 1 && list.workers(0).load().state() == state) return true;
      std::this_thread::yield();
    }
    return false;
  }

  ThreadLoop loop_;
  std::unique_ptr<Fleet> fleet_;
  std::unique_ptr<FleetService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<control::v1::FleetService::Stub> stub_;
};

TEST_F(FleetServiceTest, WelcomesAWorkerAndShowsHowItIs) {
  FleetMember member(*stub_, HelloOf("a", 'i'));
  const control::v1::JoinFleetResponse response = member.Read();
  EXPECT_EQ(response.welcome().router_incarnation(), std::string(16, 'r'));
  EXPECT_GT(response.welcome().heartbeat_interval().nanos(), 0);
  EXPECT_TRUE(Becomes(control::v1::WORKER_STATE_LOADING));
  member.Report(control::v1::WORKER_STATE_READY);
  EXPECT_TRUE(Becomes(control::v1::WORKER_STATE_READY));
  EXPECT_EQ(List().workers(0).hello().pid(), 77u);
}

TEST_F(FleetServiceTest, LosesAWorkerWhoseStreamBreaks) {
  {
    FleetMember member(*stub_, HelloOf("a", 'i'));
    member.Report(control::v1::WORKER_STATE_READY);
    ASSERT_TRUE(Becomes(control::v1::WORKER_STATE_READY));
  }
  EXPECT_TRUE(Becomes(control::v1::WORKER_STATE_LOST));
}

TEST_F(FleetServiceTest, LosesAWorkerThatSaysItsLastWord) {
  FleetMember member(*stub_, HelloOf("a", 'i'));
  member.Report(control::v1::WORKER_STATE_READY);
  ASSERT_TRUE(Becomes(control::v1::WORKER_STATE_READY));
  member.stream().WritesDone();
  EXPECT_TRUE(Becomes(control::v1::WORKER_STATE_LOST));
  member.Read();  // the welcome
  EXPECT_TRUE(member.End().ok());
}

TEST_F(FleetServiceTest, EndsTheOlderOfTwoStreamsOfOneId) {
  FleetMember older(*stub_, HelloOf("a", 'i'));
  older.Read();
  FleetMember newer(*stub_, HelloOf("a", 'j'));
  EXPECT_TRUE(newer.Read().has_welcome());
  control::v1::JoinFleetResponse none;
  EXPECT_FALSE(older.stream().Read(&none));
  EXPECT_EQ(older.End().error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(List().workers(0).hello().incarnation(), std::string(16, 'j'));
}

TEST_F(FleetServiceTest, RefusesAWorkerOfAnotherModelOrLayout) {
  FleetMember first(*stub_, HelloOf("a", 'i'));
  first.Read();
  control::v1::WorkerHello model = HelloOf("b", 'j'), layout = HelloOf("c", 'k');
  model.mutable_model()->set_model_fingerprint(std::string(32, 'M'));
  layout.mutable_model()->set_layout_fingerprint(std::string(32, 'L'));
  for (const control::v1::WorkerHello& hello : {model, layout}) {
    EXPECT_EQ(FleetMember(*stub_, hello).End().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  }
  EXPECT_EQ(List().workers_size(), 1);
}

TEST_F(FleetServiceTest, RefusesWhoDoesNotSayHelloFirstOrSaysItTwice) {
  control::v1::WorkerHello nameless = HelloOf("", 'i');
  EXPECT_EQ(FleetMember(*stub_, nameless).End().error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  grpc::ClientContext context;
  const auto stream = stub_->JoinFleet(&context);
  control::v1::JoinFleetRequest request;
  request.mutable_heartbeat()->set_sequence(1);
  stream->Write(request);
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  FleetMember member(*stub_, HelloOf("a", 'i'));
  member.Read();
  control::v1::JoinFleetRequest again;
  *again.mutable_hello() = HelloOf("a", 'i');
  member.stream().Write(again);
  EXPECT_EQ(member.End().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(Becomes(control::v1::WORKER_STATE_LOST));
}

TEST_F(FleetServiceTest, EndsAStreamThatReportsWhatCannotBe) {
  FleetMember member(*stub_, HelloOf("a", 'i'));
  member.Read();
  control::v1::JoinFleetRequest request;
  request.mutable_heartbeat()->set_sequence(1);
  request.mutable_heartbeat()->mutable_load()->set_state(control::v1::WORKER_STATE_LOST);
  member.stream().Write(request);
  EXPECT_EQ(member.End().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(Becomes(control::v1::WORKER_STATE_LOST));
}

TEST_F(FleetServiceTest, PassesOrdersOn) {
  FleetMember member(*stub_, HelloOf("a", 'i'));
  member.Read();
  loop_.Run([this] { EXPECT_TRUE(fleet_->Drain("a", absl::Seconds(3)).ok()); });
  EXPECT_EQ(member.Read().order().drain().grace().seconds(), 3);
}

}  // namespace
}  // namespace minicpmv::router
