#include "services/common/fleet_client.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "minicpmv/control/v1/worker_service.grpc.pb.h"
#include "services/common/durations.h"
#include "services/common/incarnation.h"
#include "services/common/server.h"
#include "services/common/worker_service.h"
#include "tests/services/common/eventually.h"

namespace minicpmv {
namespace {

using control::v1::JoinFleetRequest;
using control::v1::JoinFleetResponse;
using Stream = ServerBidi<JoinFleetRequest, JoinFleetResponse>;

// A router's side, played by the test.
class Fleet final : public control::v1::FleetService::CallbackService {
 public:
  grpc::ServerBidiReactor<JoinFleetRequest, JoinFleetResponse>* JoinFleet(
      grpc::CallbackServerContext*) override {
    const std::shared_ptr<Stream> stream = Stream::Create();
    stream->Receive([this, stream](std::optional<JoinFleetRequest> request) {
      if (request.has_value()) {
        requests.Add(*std::move(request));
      } else {
        stream->End(absl::OkStatus());
      }
    });
    opened.Add(stream);
    return stream->reactor();
  }
  Told<std::shared_ptr<Stream>> opened;
  Told<JoinFleetRequest> requests;
};

class FleetClientTest : public ::testing::Test {
 protected:
  void SetUp() override { StartRouter("127.0.0.1:0"); }
  void StartRouter(const std::string& address) {
    const absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve(address);
    ASSERT_TRUE(listen.ok()) << listen.status();
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(*listen, {}, {&fleet_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::unique_ptr<FleetClient> Join(FleetClient::Meet meet = nullptr) {
    absl::StatusOr<std::unique_ptr<FleetClient>> client =
        FleetClient::Start(worker_, server_->address(), std::move(meet));
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }
  static JoinFleetResponse Welcome(absl::Duration interval) {
    JoinFleetResponse response;
    response.mutable_welcome()->set_router_incarnation(std::string(16, 'r'));
    *response.mutable_welcome()->mutable_heartbeat_interval() = ToProto(interval);
    return response;
  }
  JoinFleetRequest NextRequest() { return fleet_.requests.Next().value_or(JoinFleetRequest()); }

  static WorkerOptions Options() {
    WorkerOptions options;
    options.id = "w";
    options.address = "127.0.0.1:4000";
    options.roles = {common::v1::ROLE_VISION};
    return options;
  }

  Metrics metrics_;
  Worker worker_{Options(), metrics_};
  Fleet fleet_;
  std::unique_ptr<Server> server_;
};

TEST_F(FleetClientTest, SaysHelloAndThenHowItIs) {
  const auto client = Join();
  EXPECT_EQ(NextRequest().hello().worker_id(), "w");
  EXPECT_FALSE(client->is_welcome());
  const auto stream = fleet_.opened.Next();
  ASSERT_TRUE(stream.has_value());
  (*stream)->Send(Welcome(absl::Milliseconds(20)));
  for (uint64_t sequence = 1; sequence <= 3; ++sequence) {
    const JoinFleetRequest request = NextRequest();
    EXPECT_EQ(request.heartbeat().sequence(), sequence);
    EXPECT_EQ(request.heartbeat().load().state(), control::v1::WORKER_STATE_LOADING);
  }
  EXPECT_TRUE(client->is_welcome());
}

TEST_F(FleetClientTest, TellsOfANewStateAtOnce) {
  const auto client = Join();
  const auto stream = fleet_.opened.Next();
  ASSERT_TRUE(stream.has_value());
  (*stream)->Send(Welcome(absl::Hours(1)));
  EXPECT_TRUE(NextRequest().has_hello());
  EXPECT_EQ(NextRequest().heartbeat().load().state(), control::v1::WORKER_STATE_LOADING);
  worker_.SetReady();
  EXPECT_EQ(NextRequest().heartbeat().load().state(), control::v1::WORKER_STATE_READY);
}

TEST_F(FleetClientTest, DrainsWhenOrdered) {
  worker_.SetReady();
  const auto client = Join();
  const auto stream = fleet_.opened.Next();
  ASSERT_TRUE(stream.has_value());
  (*stream)->Send(Welcome(absl::Hours(1)));
  JoinFleetResponse order;
  *order.mutable_order()->mutable_drain()->mutable_grace() = ToProto(absl::Seconds(1));
  (*stream)->Send(order);
  EXPECT_TRUE(Eventually([&] { return worker_.draining(); }));
  EXPECT_TRUE(NextRequest().has_hello());
  while (NextRequest().heartbeat().load().state() != control::v1::WORKER_STATE_DRAINING) {
    ASSERT_FALSE(HasFailure());
  }
}

TEST_F(FleetClientTest, PassesOrdersToMeetOn) {
  Told<std::string> met;
  const auto client =
      Join([&](const control::v1::MeetOrder& order) { met.Add(order.worker_id()); });
  const auto stream = fleet_.opened.Next();
  ASSERT_TRUE(stream.has_value());
  (*stream)->Send(Welcome(absl::Hours(1)));
  JoinFleetResponse order;
  order.mutable_order()->mutable_meet()->set_worker_id("other");
  (*stream)->Send(order);
  EXPECT_EQ(met.Next(), "other");
}

TEST_F(FleetClientTest, DialsAgainWhenTheStreamEnds) {
  const auto client = Join();
  for (int i = 0; i < 3; ++i) {
    const auto stream = fleet_.opened.Next();
    ASSERT_TRUE(stream.has_value()) << i;
    EXPECT_TRUE(NextRequest().has_hello());
    (*stream)->Send(Welcome(absl::Hours(1)));
    EXPECT_EQ(NextRequest().heartbeat().sequence(), 1u);
    (*stream)->End(absl::AbortedError("a newer stream"));
  }
}

TEST_F(FleetClientTest, DialsUntilTheRouterIsThere) {
  const std::string address = server_->address();
  server_.reset();
  absl::StatusOr<std::unique_ptr<FleetClient>> client =
      FleetClient::Start(worker_, address, nullptr);
  ASSERT_TRUE(client.ok());
  EXPECT_FALSE((*client)->is_welcome());
  StartRouter(address);
  EXPECT_TRUE(fleet_.opened.Next().has_value());
}

TEST_F(FleetClientTest, LeavesWhoeverIsNoRouter) {
  const auto client = Join();
  const auto stream = fleet_.opened.Next();
  ASSERT_TRUE(stream.has_value());
  JoinFleetResponse odd = Welcome(absl::Hours(1));
  odd.mutable_welcome()->set_router_incarnation("short");
  (*stream)->Send(odd);
  EXPECT_TRUE(fleet_.opened.Next().has_value());
}

TEST_F(FleetClientTest, EndsWhileNobodyAnswers) {
  const auto client = Join();
  ASSERT_TRUE(fleet_.opened.Next().has_value());
}

TEST_F(FleetClientTest, RefusesAnAddressThatIsNone) {
  EXPECT_TRUE(absl::IsInvalidArgument(FleetClient::Start(worker_, "unix:/x", nullptr).status()));
}

TEST(WorkerServiceTest, TellsAndDrains) {
  Metrics metrics;
  WorkerOptions options;
  options.id = "w";
  Worker worker(options, metrics);
  WorkerService service(worker);
  const auto listen = ListenAddress::Reserve("127.0.0.1:0");
  ASSERT_TRUE(listen.ok());
  const auto server = Server::Start(*listen, {}, {&service});
  ASSERT_TRUE(server.ok());
  const auto stub = control::v1::WorkerService::NewStub(*Credentials().Dial(listen->text()));
  {
    grpc::ClientContext context;
    control::v1::GetWorkerResponse response;
    ASSERT_TRUE(stub->GetWorker(&context, {}, &response).ok());
    EXPECT_EQ(response.hello().worker_id(), "w");
    EXPECT_EQ(response.load().state(), control::v1::WORKER_STATE_LOADING);
  }
  for (const int64_t seconds : {int64_t{-1}, int64_t{1} << 62}) {
    grpc::ClientContext context;
    control::v1::DrainWorkerRequest request;
    request.mutable_grace()->set_seconds(seconds);
    control::v1::DrainWorkerResponse response;
    EXPECT_EQ(stub->DrainWorker(&context, request, &response).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_FALSE(worker.draining());
  }
  grpc::ClientContext context;
  control::v1::DrainWorkerResponse response;
  EXPECT_TRUE(stub->DrainWorker(&context, {}, &response).ok());
  EXPECT_TRUE(worker.draining());
}

TEST(DurationsTest, GoesBothWays) {
  for (const absl::Duration duration :
       {absl::ZeroDuration(), absl::Milliseconds(1500), absl::Hours(1)}) {
    EXPECT_EQ(*DurationFrom(ToProto(duration)), duration);
  }
  EXPECT_TRUE(DurationFrom(ToProto(absl::InfiniteDuration())).ok());
  google::protobuf::Duration odd;
  odd.set_nanos(1'000'000'000);
  EXPECT_FALSE(DurationFrom(odd).ok());
}

TEST(IncarnationTest, HasSixteenBytes) {
  const Incarnation incarnation = DrawIncarnation();
  EXPECT_EQ(*IncarnationFrom(BytesOf(incarnation)), incarnation);
  EXPECT_TRUE(absl::IsInvalidArgument(IncarnationFrom("short").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(IncarnationFrom(std::string(17, 'x')).status()));
}

}  // namespace
}  // namespace minicpmv
