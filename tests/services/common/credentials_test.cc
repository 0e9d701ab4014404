#include "services/common/credentials.h"

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "minicpmv/control/v1/worker_service.grpc.pb.h"
#include "minicpmv/transfer/v1/transfer_service.grpc.pb.h"
#include "services/common/calls.h"
#include "services/common/server.h"
#include "services/common/worker_service.h"
#include "tests/runtime/base/temp_folder.h"
#include "tests/services/common/certificates.h"
#include "tests/services/common/eventually.h"

namespace minicpmv {
namespace {

using control::v1::GetWorkerRequest;
using control::v1::GetWorkerResponse;

constexpr char kToken[] = "0123456789abcdef-the-cluster";

// A process that answers WorkerService and holds every Deliver open.
class CredentialsTest : public ::testing::Test {
 protected:
  class Transfers final : public transfer::v1::TransferService::CallbackService {
   public:
    grpc::ServerBidiReactor<transfer::v1::DeliverRequest, transfer::v1::DeliverResponse>* Deliver(
        grpc::CallbackServerContext*) override {
      const auto call =
          ServerBidi<transfer::v1::DeliverRequest, transfer::v1::DeliverResponse>::Create();
      call->End(absl::OkStatus());
      return call->reactor();
    }
  };

  std::string Write(const std::string& name, const std::string& content) {
    const std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  Credentials Load(const CredentialOptions& options) {
    const absl::StatusOr<Credentials> credentials = Credentials::Load(options);
    EXPECT_TRUE(credentials.ok()) << credentials.status();
    return credentials.value_or(Credentials());
  }
  Credentials WithToken(const std::string& token) {
    CredentialOptions options;
    options.token_file = Write("token", token + "\n");
    return Load(options);
  }
  void Serve(const Credentials& credentials) {
    const absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve("127.0.0.1:0");
    ASSERT_TRUE(listen.ok()) << listen.status();
    ServerOptions options;
    options.credentials = credentials;
    absl::StatusOr<std::unique_ptr<Server>> server =
        Server::Start(*listen, options, {&service_, &transfers_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  absl::StatusOr<GetWorkerResponse> Ask(
      const Credentials& credentials,
      const std::function<void(grpc::ClientContext&)>& prepare = nullptr) {
    const auto channel = credentials.Dial(server_->address());
    EXPECT_TRUE(channel.ok()) << channel.status();
    const auto stub = control::v1::WorkerService::NewStub(*channel);
    Told<absl::StatusOr<GetWorkerResponse>> told;
    ClientUnary<GetWorkerRequest, GetWorkerResponse>::Start(
        [&](auto* context, auto* request, auto* response, auto done) {
          stub->async()->GetWorker(context, request, response, std::move(done));
        },
        {}, [&](absl::StatusOr<GetWorkerResponse> response) { told.Add(std::move(response)); },
        prepare);
    return told.Next().value_or(absl::InternalError("no end"));
  }

  TempFolder folder_;
  Metrics metrics_;
  Worker worker_{WorkerOptions(), metrics_};
  WorkerService service_{worker_};
  Transfers transfers_;
  std::unique_ptr<Server> server_;
};

TEST_F(CredentialsTest, LetsCallersWithTheTokenIn) {
  Serve(WithToken(kToken));
  const auto response = Ask(WithToken(kToken));
  EXPECT_TRUE(response.ok()) << response.status();
}

TEST_F(CredentialsTest, ShutsEveryDoorToStrangers) {
  Serve(WithToken(kToken));
  for (const Credentials& stranger :
       {Credentials(), WithToken("0123456789abcdef-the-clusteR"),
        WithToken("0123456789abcdef-the-cluster2"), WithToken("0123456789abcdef")}) {
    EXPECT_TRUE(absl::IsUnauthenticated(Ask(stranger).status()));
    const auto channel = stranger.Dial(server_->address());
    ASSERT_TRUE(channel.ok());
    Told<absl::Status> end;
    const auto stub = transfer::v1::TransferService::NewStub(*channel);
    const auto call =
        ClientBidi<transfer::v1::DeliverRequest, transfer::v1::DeliverResponse>::Start(
            [&](grpc::ClientContext* context, auto* reactor) {
              stub->async()->Deliver(context, reactor);
            },
            {[](const transfer::v1::DeliverResponse&) {},
             [&](const absl::Status& status) { end.Add(status); }});
    EXPECT_TRUE(absl::IsUnauthenticated(end.Next().value_or(absl::OkStatus())));

    grpc::ClientContext context;
    grpc::health::v1::HealthCheckResponse health;
    EXPECT_EQ(
        grpc::health::v1::Health::NewStub(*channel)->Check(&context, {}, &health).error_code(),
        grpc::StatusCode::UNAUTHENTICATED);
  }
}

TEST_F(CredentialsTest, WantsTheTokenOnceAndAsBearer) {
  Serve(WithToken(kToken));
  const std::string bearer = std::string("Bearer ") + kToken;
  const auto ask = [&](const std::vector<std::string>& values) {
    return Ask(Credentials(),
               [&](grpc::ClientContext& context) {
                 for (const std::string& value : values)
                   context.AddMetadata("authorization", value);
               })
        .status();
  };
  EXPECT_TRUE(ask({bearer}).ok());
  EXPECT_TRUE(absl::IsUnauthenticated(ask({kToken})));
  EXPECT_TRUE(absl::IsUnauthenticated(ask({""})));
  EXPECT_TRUE(absl::IsUnauthenticated(ask({bearer, bearer})));
  EXPECT_TRUE(absl::IsUnauthenticated(ask({std::string("bearer ") + kToken})));
}

TEST_F(CredentialsTest, SpeaksTlsWithCertificatesOnBothSides) {
  const Certificate authority = MakeAuthority(), other_authority = MakeAuthority();
  const auto with = [&](const Certificate* certificate, const Certificate* trusted,
                        const char* token) {
    CredentialOptions options;
    if (certificate != nullptr) {
      options.certificate_file = Write("certificate", certificate->certificate);
      options.key_file = Write("key", certificate->key);
    }
    if (trusted != nullptr) options.ca_file = Write("ca", trusted->certificate);
    if (token != nullptr) options.token_file = Write("token", token);
    return Load(options);
  };
  const Certificate worker = MakeCertificate(authority);
  const Certificate stranger = MakeCertificate(other_authority);

  Serve(with(&worker, &authority, nullptr));
  EXPECT_TRUE(Ask(with(&worker, &authority, nullptr)).ok());
  EXPECT_TRUE(absl::IsUnavailable(Ask(with(nullptr, &authority, nullptr)).status()));
  EXPECT_TRUE(absl::IsUnavailable(Ask(with(&stranger, &authority, nullptr)).status()));
  EXPECT_TRUE(absl::IsUnavailable(Ask(with(&worker, &other_authority, nullptr)).status()));
  EXPECT_TRUE(absl::IsUnavailable(Ask(Credentials()).status()));

  // TLS to hide, a token to tell friends.
  Serve(with(&worker, nullptr, kToken));
  EXPECT_TRUE(Ask(with(nullptr, &authority, kToken)).ok());
  EXPECT_TRUE(absl::IsUnauthenticated(Ask(with(nullptr, &authority, nullptr)).status()));
}

TEST_F(CredentialsTest, NamesTheFileThatIsWrong) {
  CredentialOptions options;
  options.token_file = "/nowhere/token";
  EXPECT_TRUE(absl::IsNotFound(Credentials::Load(options).status()));
  for (const char* token : {"", "short", "0123456789abcdef with a space", "0123456789abcde\x01"}) {
    options.token_file = Write("token", token);
    const absl::Status status = Credentials::Load(options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << token;
    EXPECT_NE(status.message().find(options.token_file), std::string::npos) << status;
  }
  options = {};
  options.certificate_file = Write("certificate", "x");
  EXPECT_TRUE(absl::IsInvalidArgument(Credentials::Load(options).status()));
  options.key_file = options.certificate_file;
  EXPECT_TRUE(absl::IsInvalidArgument(Credentials::Load(options).status()));
}

TEST_F(CredentialsTest, TellsStrangersByTokenOrByCertificatesOfBothSides) {
  EXPECT_FALSE(Credentials().TellStrangers());
  EXPECT_TRUE(WithToken(kToken).TellStrangers());
  const Certificate authority = MakeAuthority();
  CredentialOptions options;
  options.certificate_file = Write("certificate", authority.certificate);
  options.key_file = Write("key", authority.key);
  EXPECT_FALSE(Load(options).TellStrangers());
  options.ca_file = options.certificate_file;
  EXPECT_TRUE(Load(options).TellStrangers());
}

TEST(AddressTest, TakesHostAndPortAndNothingElse) {
  for (const char* good : {"127.0.0.1:1", "localhost:65535", "[::1]:50070", "a-b.c_d.example:8"}) {
    EXPECT_TRUE(CheckAddress(good).ok()) << good;
  }
  for (const char* bad :
       {"", ":", ":1", "a:", "a:0", "a:65536", "a:-1", "a:+1", "a: 1", "a:1 ", "unix:/tmp/x:1",
        "dns:///a:1", "xds:///a:1", "a b:1", "::1:1", "[::1]", "[]:1", "[::1]]:1", "a/b:1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckAddress(bad))) << bad;
    EXPECT_FALSE(Credentials().Dial(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace minicpmv
