#include "services/common/admin_server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "tests/services/common/eventually.h"
#include "tests/services/common/raw_socket.h"

namespace minicpmv {
namespace {

class AdminServerTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(AdminServer::Limits()); }
  void Start(const AdminServer::Limits& limits) {
    const absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve("127.0.0.1:0");
    ASSERT_TRUE(listen.ok()) << listen.status();
    absl::StatusOr<std::unique_ptr<AdminServer>> server = AdminServer::Start(
        *listen,
        {[] { return std::string("a_total 1\n"); }, [this] { return is_ready_.load(); }, "0.1.0"},
        limits);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::string Ask(const std::string& bytes) {
    RawSocket socket(server_->address());
    socket.Send(bytes);
    return socket.Receive();
  }
  std::string Get(const std::string& target) {
    return Ask("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  }

  std::atomic<bool> is_ready_ = false;
  std::unique_ptr<AdminServer> server_;
};

testing::AssertionResult Has(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "no \"" << part << "\" in \"" << text << "\"";
}

TEST_F(AdminServerTest, ShowsItsFourPages) {
  EXPECT_TRUE(Has(Get("/metrics"), "HTTP/1.1 200"));
  EXPECT_TRUE(Has(Get("/metrics?x=1"), "\r\n\r\na_total 1\n"));
  EXPECT_TRUE(Has(Get("/metrics"), "text/plain; version=0.0.4"));
  EXPECT_TRUE(Has(Get("/healthz"), "\r\n\r\nok\n"));
  EXPECT_TRUE(Has(Get("/readyz"), "HTTP/1.1 503"));
  is_ready_ = true;
  EXPECT_TRUE(Has(Get("/readyz"), "HTTP/1.1 200"));
  EXPECT_TRUE(Has(Get("/version"), "\r\n\r\n0.1.0\n"));
  EXPECT_TRUE(Has(Get("/else"), "HTTP/1.1 404"));
  EXPECT_TRUE(Has(Ask("POST /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"), "HTTP/1.1 405"));
}

TEST_F(AdminServerTest, AnswersHeadWithoutABody) {
  const std::string answer = Ask("HEAD /version HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(Has(answer, "Content-Length: 6"));
  EXPECT_EQ(answer.substr(answer.size() - 4), "\r\n\r\n");
}

TEST_F(AdminServerTest, AnswersSeveralRequestsOfOneConnection) {
  RawSocket socket(server_->address());
  for (int i = 0; i < 3; ++i) {
    socket.Send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(Has(socket.Receive("ok\n"), "HTTP/1.1 200"));
  }
}

TEST_F(AdminServerTest, ClosesOnGarbageAndGoesOn) {
  for (const std::string& garbage :
       {std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), std::string(5000, '\0'),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("\r\n\r\n\r\n\r\n"),
        std::string("GET /healthz HTTP/1.1\r\nA: ") + std::string(100'000, 'x') + "\r\n\r\n",
        std::string("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nx")}) {
    EXPECT_EQ(Ask(garbage).find("HTTP/1.1 200"), std::string::npos);
    EXPECT_TRUE(Has(Get("/healthz"), "HTTP/1.1 200"));
  }
}

TEST_F(AdminServerTest, LetsGoOfClientsThatAreSlow) {
  AdminServer::Limits limits;
  limits.patience = absl::Milliseconds(50);
  Start(limits);
  RawSocket silent(server_->address()), slow(server_->address());
  slow.Send("GET /heal");
  EXPECT_EQ(silent.Receive(), "");
  EXPECT_EQ(slow.Receive(), "");
  EXPECT_TRUE(Has(Get("/healthz"), "HTTP/1.1 200"));
}

TEST_F(AdminServerTest, TakesSoManyConnectionsAndNoMore) {
  AdminServer::Limits limits;
  limits.connections = 4;
  Start(limits);
  std::vector<RawSocket> held;
  for (int i = 0; i < 4; ++i) {
    held.emplace_back(server_->address());
    held.back().Send("GET /healthz HTTP/1.1\r\n\r\n");
    EXPECT_TRUE(Has(held.back().Receive("ok\n"), "HTTP/1.1 200"));
  }
  EXPECT_EQ(Get("/healthz"), "");
  held.pop_back();
  EXPECT_TRUE(Eventually([&] { return !Get("/healthz").empty(); }));
}

TEST_F(AdminServerTest, EndsWhileClientsAreConnected) {
  RawSocket socket(server_->address());
  socket.Send("GET /healthz HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(Has(socket.Receive("ok\n"), "HTTP/1.1 200"));
  server_.reset();
  EXPECT_EQ(socket.Receive(), "");
}

TEST_F(AdminServerTest, SaysThatAPortIsTaken) {
  const absl::StatusOr<ListenAddress> taken = ListenAddress::Reserve(server_->address());
  ASSERT_TRUE(taken.ok());
  EXPECT_TRUE(absl::IsUnavailable(
      AdminServer::Start(*taken, {[] { return ""; }, [] { return true; }, ""}).status()));
}

}  // namespace
}  // namespace minicpmv
