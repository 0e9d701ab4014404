#include "services/common/server.h"

#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "minicpmv/control/v1/worker_service.grpc.pb.h"
#include "services/common/metrics.h"
#include "services/common/worker.h"
#include "services/common/worker_service.h"
#include "tests/services/common/eventually.h"
#include "tests/services/common/raw_socket.h"

namespace minicpmv {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

class ServerTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Server>> Start(const std::string& address,
                                                const ServerOptions& options = {}) {
    const absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve(address);
    if (!listen.ok()) return listen.status();
    return Server::Start(*listen, options, {&service_});
  }
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Server>> server = Start("127.0.0.1:0");
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = *Credentials().Dial(server_->address());
  }
  grpc::Status Ask() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    control::v1::GetWorkerResponse response;
    return control::v1::WorkerService::NewStub(channel_)->GetWorker(&context, {}, &response);
  }
  HealthCheckResponse::ServingStatus HealthOf(const std::string& name) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(name);
    HealthCheckResponse response;
    const grpc::Status status = Health::NewStub(channel_)->Check(&context, request, &response);
    return status.ok() ? response.status() : HealthCheckResponse::SERVICE_UNKNOWN;
  }

  Metrics metrics_;
  Worker worker_{WorkerOptions(), metrics_};
  WorkerService service_{worker_};
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(ServerTest, TellsItsHealth) {
  EXPECT_EQ(HealthOf("liveness"), HealthCheckResponse::SERVING);
  EXPECT_EQ(HealthOf("readiness"), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(HealthOf(""), HealthCheckResponse::NOT_SERVING);
  server_->SetReady(true);
  EXPECT_EQ(HealthOf("readiness"), HealthCheckResponse::SERVING);
  EXPECT_EQ(HealthOf(""), HealthCheckResponse::SERVING);
  server_->SetReady(false);
  EXPECT_EQ(HealthOf("readiness"), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(HealthOf("liveness"), HealthCheckResponse::SERVING);
  EXPECT_EQ(HealthOf("else"), HealthCheckResponse::SERVICE_UNKNOWN);
}

TEST_F(ServerTest, KnowsItsPortBeforeItListens) {
  const absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve("localhost:0");
  ASSERT_TRUE(listen.ok());
  EXPECT_TRUE(listen->was_picked());
  EXPECT_TRUE(listen->is_loopback());
  const auto server = Server::Start(*listen, {}, {&service_});
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->address(), listen->text());
  channel_ = *Credentials().Dial(listen->text());
  EXPECT_TRUE(Ask().ok());
}

TEST_F(ServerTest, SaysThatAPortIsTaken) {
  EXPECT_TRUE(absl::IsUnavailable(Start(server_->address()).status()));
}

TEST_F(ServerTest, RefusesToListenForStrangers) {
  for (const char* address : {"0.0.0.0:0", "[::]:0"}) {
    const absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve(address);
    if (!listen.ok()) continue;  // a machine without IPv6
    EXPECT_TRUE(listen->is_wildcard());
    EXPECT_FALSE(listen->is_loopback());
    EXPECT_TRUE(absl::IsInvalidArgument(Server::Start(*listen, {}, {&service_}).status()));
  }
}

TEST_F(ServerTest, RefusesWhatIsNoAddress) {
  for (const char* address :
       {"", ":", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:x"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ListenAddress::Reserve(address).status())) << address;
  }
  EXPECT_TRUE(absl::IsUnavailable(ListenAddress::Reserve("no.such.host.invalid:0").status()));
}

TEST_F(ServerTest, ClosesOnGarbageAndGoesOn) {
  for (const std::string& garbage :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(10'000, '\xff'),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") + std::string(1000, '\xff')}) {
    RawSocket socket(server_->address());
    ASSERT_TRUE(socket.is_connected());
    socket.Send(garbage);
    EXPECT_EQ(socket.Receive().find("<timeout>"), std::string::npos);
    EXPECT_TRUE(Ask().ok());
  }
}

TEST_F(ServerTest, AnswersBesideManyIdleConnections) {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  // Both ends are in this process.
  const auto count = std::min<rlim_t>(10'000, (limit.rlim_cur - 200) / 2);
  std::vector<RawSocket> idle;
  for (rlim_t i = 0; i < count; ++i) {
    idle.emplace_back(server_->address());
    ASSERT_TRUE(idle.back().is_connected()) << i;
  }
  // They come one after the other, and a new client after them.
  EXPECT_TRUE(Eventually([&] { return Ask().ok(); }));
}

TEST_F(ServerTest, StopsBeforeTheGraceIsOverWhenOnlyEndlessStreamsAreOpen) {
  grpc::ClientContext context;
  const auto stub = Health::NewStub(channel_);
  const auto watch = stub->Watch(&context, HealthCheckRequest());
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  std::atomic<int> looks = 0;
  server_->Shutdown(absl::Hours(1), [&] { return ++looks > 2; });
  while (watch->Read(&response)) {
  }
  EXPECT_FALSE(watch->Finish().ok());
}

TEST_F(ServerTest, ShowsItsServicesOnlyWhereToldTo) {
  // An empty message of any kind tells whether anybody answers.
  const auto reflects = [&] {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    const grpc::Slice nothing("");
    const grpc::ByteBuffer request(&nothing, 1);
    grpc::ByteBuffer response;
    Told<grpc::Status> end;
    stub.UnaryCall(&context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", {},
                   &request, &response, [&](const grpc::Status& status) { end.Add(status); });
    return end.Next()->error_code() != grpc::StatusCode::UNIMPLEMENTED;
  };
  EXPECT_FALSE(reflects());
  ServerOptions options;
  options.reflection = true;
  const auto server = Start("127.0.0.1:0", options);
  ASSERT_TRUE(server.ok());
  channel_ = *Credentials().Dial((*server)->address());
  EXPECT_TRUE(reflects());
}

}  // namespace
}  // namespace minicpmv
