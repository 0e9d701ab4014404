#include "services/common/calls.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "minicpmv/control/v1/worker_service.grpc.pb.h"
#include "minicpmv/decode/v1/decode_service.grpc.pb.h"
#include "minicpmv/transfer/v1/transfer_service.grpc.pb.h"
#include "services/common/server.h"
#include "tests/services/common/eventually.h"

namespace minicpmv {
namespace {

using control::v1::GetWorkerRequest;
using control::v1::GetWorkerResponse;
using decode::v1::DecodeSequenceRequest;
using decode::v1::DecodeSequenceResponse;
using transfer::v1::DeliverRequest;
using transfer::v1::DeliverResponse;

using Tokens = ServerStream<DecodeSequenceResponse>;
using Parcels = ServerBidi<DeliverRequest, DeliverResponse>;
using Reply = ServerUnary<GetWorkerResponse>;

DecodeSequenceResponse TokenOf(uint32_t token) {
  DecodeSequenceResponse response;
  response.mutable_tokens()->add_tokens(token);
  return response;
}

DeliverResponse LandedOf(uint64_t number) {
  DeliverResponse response;
  response.mutable_landed()->set_number(number);
  return response;
}

// Three services that hand every call to the test.
class Sequences final : public decode::v1::DecodeService::CallbackService {
 public:
  grpc::ServerWriteReactor<DecodeSequenceResponse>* DecodeSequence(
      grpc::CallbackServerContext*, const DecodeSequenceRequest*) override {
    const std::shared_ptr<Tokens> call = Tokens::Create();
    opened.Add(call);
    return call->reactor();
  }
  Told<std::shared_ptr<Tokens>> opened;
};

class Transfers final : public transfer::v1::TransferService::CallbackService {
 public:
  grpc::ServerBidiReactor<DeliverRequest, DeliverResponse>* Deliver(
      grpc::CallbackServerContext*) override {
    const std::shared_ptr<Parcels> call = Parcels::Create();
    opened.Add(call);
    return call->reactor();
  }
  Told<std::shared_ptr<Parcels>> opened;
};

class Replies final : public control::v1::WorkerService::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetWorker(grpc::CallbackServerContext*, const GetWorkerRequest*,
                                      GetWorkerResponse* response) override {
    const std::shared_ptr<Reply> call = Reply::Create(response);
    opened.Add(call);
    return call->reactor();
  }
  Told<std::shared_ptr<Reply>> opened;
};

class CallsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve("127.0.0.1:0");
    ASSERT_TRUE(listen.ok()) << listen.status();
    absl::StatusOr<std::unique_ptr<Server>> server =
        Server::Start(*listen, ServerOptions(), {&sequences_, &transfers_, &replies_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    const auto channel = Credentials().Dial(server_->address());
    ASSERT_TRUE(channel.ok()) << channel.status();
    decode_ = decode::v1::DecodeService::NewStub(*channel);
    transfer_ = transfer::v1::TransferService::NewStub(*channel);
    worker_ = control::v1::WorkerService::NewStub(*channel);
  }

  // The client's end of a call, and what it was told.
  struct TokensCall {
    std::shared_ptr<ClientStream<DecodeSequenceResponse>> call;
    Told<DecodeSequenceResponse> messages;
    Told<absl::Status> end;
  };
  std::unique_ptr<TokensCall> AskForTokens(
      const std::function<void(grpc::ClientContext&)>& prepare = nullptr) {
    auto asked = std::make_unique<TokensCall>();
    TokensCall* const told = asked.get();
    const DecodeSequenceRequest request;
    asked->call = ClientStream<DecodeSequenceResponse>::Start(
        [&](grpc::ClientContext* context, auto* reactor) {
          decode_->async()->DecodeSequence(context, &request, reactor);
        },
        {[told](DecodeSequenceResponse response) { told->messages.Add(std::move(response)); },
         [told](const absl::Status& status) { told->end.Add(status); }},
        prepare);
    return asked;
  }

  struct ParcelsCall {
    std::shared_ptr<ClientBidi<DeliverRequest, DeliverResponse>> call;
    Told<DeliverResponse> messages;
    Told<absl::Status> end;
  };
  std::unique_ptr<ParcelsCall> Deliver() {
    auto asked = std::make_unique<ParcelsCall>();
    ParcelsCall* const told = asked.get();
    asked->call = ClientBidi<DeliverRequest, DeliverResponse>::Start(
        [&](grpc::ClientContext* context, auto* reactor) {
          transfer_->async()->Deliver(context, reactor);
        },
        {[told](DeliverResponse response) { told->messages.Add(std::move(response)); },
         [told](const absl::Status& status) { told->end.Add(status); }});
    return asked;
  }

  using WorkerCall = ClientUnary<GetWorkerRequest, GetWorkerResponse>;
  std::shared_ptr<WorkerCall> AskForWorker(Told<absl::StatusOr<GetWorkerResponse>>& told) {
    return WorkerCall::Start(
        [&](auto* context, auto* request, auto* response, auto done) {
          worker_->async()->GetWorker(context, request, response, std::move(done));
        },
        {}, [&](absl::StatusOr<GetWorkerResponse> response) { told.Add(std::move(response)); });
  }

  Sequences sequences_;
  Transfers transfers_;
  Replies replies_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<decode::v1::DecodeService::Stub> decode_;
  std::unique_ptr<transfer::v1::TransferService::Stub> transfer_;
  std::unique_ptr<control::v1::WorkerService::Stub> worker_;
};

absl::StatusCode CodeOf(const std::optional<absl::Status>& status) {
  return status.has_value() ? status->code() : absl::StatusCode::kUnknown;
}

TEST_F(CallsTest, DeliversMessagesInOrderAndThenTheEnd) {
  const auto asked = AskForTokens();
  const auto call = sequences_.opened.Next();
  ASSERT_TRUE(call.has_value());
  for (uint32_t i = 0; i < 2000; ++i) EXPECT_TRUE((*call)->Send(TokenOf(i)));
  (*call)->End(WithReason(absl::AbortedError("go elsewhere"), "DRAINING"));
  for (uint32_t i = 0; i < 2000; ++i) {
    const auto message = asked->messages.Next();
    ASSERT_TRUE(message.has_value()) << i;
    ASSERT_EQ(message->tokens().tokens(0), i);
  }
  const auto end = asked->end.Next();
  EXPECT_EQ(CodeOf(end), absl::StatusCode::kAborted);
  EXPECT_EQ(end->message(), "go elsewhere");
  EXPECT_EQ(ReasonOf(*end), "DRAINING");
}

TEST_F(CallsTest, RefusesMessagesAfterTheEndAndKeepsTheFirstEnd) {
  const auto asked = AskForTokens();
  const auto call = sequences_.opened.Next();
  ASSERT_TRUE(call.has_value());
  (*call)->End(absl::OkStatus());
  (*call)->End(absl::InternalError("too late"));
  EXPECT_FALSE((*call)->Send(TokenOf(1)));
  EXPECT_EQ(CodeOf(asked->end.Next()), absl::StatusCode::kOk);
  EXPECT_TRUE(asked->messages.empty());
  EXPECT_FALSE((*call)->Send(TokenOf(1)));
}

TEST_F(CallsTest, CarriesBothWaysAtOnce) {
  const auto asked = Deliver();
  const auto opened = transfers_.opened.Next();
  ASSERT_TRUE(opened.has_value());
  const std::shared_ptr<Parcels> call = *opened;
  call->Receive([call](std::optional<DeliverRequest> request) {
    if (!request.has_value()) {
      call->End(absl::OkStatus());
    } else {
      call->Send(LandedOf(request->label().number()));
    }
  });
  for (uint64_t i = 1; i <= 2000; ++i) {
    DeliverRequest request;
    request.mutable_label()->set_number(i);
    EXPECT_TRUE(asked->call->Send(std::move(request)));
  }
  asked->call->SendLast();
  EXPECT_FALSE(asked->call->Send(DeliverRequest()));
  for (uint64_t i = 1; i <= 2000; ++i) {
    const auto message = asked->messages.Next();
    ASSERT_TRUE(message.has_value()) << i;
    ASSERT_EQ(message->landed().number(), i);
  }
  EXPECT_EQ(CodeOf(asked->end.Next()), absl::StatusCode::kOk);
}

TEST_F(CallsTest, CarriesMoreThanAWindowOfBytes) {
  constexpr int kPieces = 64;
  const std::string piece(256 << 10, 'x');
  const auto asked = Deliver();
  const auto opened = transfers_.opened.Next();
  ASSERT_TRUE(opened.has_value());
  const std::shared_ptr<Parcels> call = *opened;
  const auto bytes = std::make_shared<uint64_t>(0);
  call->Receive([call, bytes](std::optional<DeliverRequest> request) {
    if (request.has_value()) {
      *bytes += request->bytes().data().size();
    } else {
      call->Send(LandedOf(*bytes));
      call->End(absl::OkStatus());
    }
  });
  for (int i = 0; i < kPieces; ++i) {
    DeliverRequest request;
    request.mutable_bytes()->set_data(piece);
    asked->call->Send(std::move(request));
  }
  asked->call->SendLast();
  const auto message = asked->messages.Next();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->landed().number(), kPieces * piece.size());
  EXPECT_EQ(CodeOf(asked->end.Next()), absl::StatusCode::kOk);
}

TEST_F(CallsTest, RefusesAMessageBeyondTheLimit) {
  const auto asked = Deliver();
  const auto opened = transfers_.opened.Next();
  ASSERT_TRUE(opened.has_value());
  const std::shared_ptr<Parcels> call = *opened;
  call->Receive([call](std::optional<DeliverRequest> request) {
    if (!request.has_value()) call->End(absl::OkStatus());
  });
  DeliverRequest request;
  request.mutable_bytes()->set_data(std::string(5 << 20, 'x'));
  asked->call->Send(std::move(request));
  EXPECT_EQ(CodeOf(asked->end.Next()), absl::StatusCode::kResourceExhausted);
}

TEST_F(CallsTest, TellsBothSidesOfACancel) {
  const auto asked = AskForTokens();
  const auto call = sequences_.opened.Next();
  ASSERT_TRUE(call.has_value());
  (*call)->Send(TokenOf(1));
  Told<bool> gone;
  (*call)->OnGone([&] { gone.Add(true); });
  ASSERT_TRUE(asked->messages.Next().has_value());
  EXPECT_TRUE(gone.empty());
  asked->call->Cancel();
  asked->call->Cancel();
  EXPECT_EQ(CodeOf(asked->end.Next()), absl::StatusCode::kCancelled);
  EXPECT_TRUE(gone.Next().has_value());
  (*call)->End(absl::CancelledError(""));
}

TEST_F(CallsTest, TellsAtOnceThatTheClientIsGoneAlready) {
  const auto asked = AskForTokens();
  const auto call = sequences_.opened.Next();
  ASSERT_TRUE(call.has_value());
  asked->call->Cancel();
  // A write that fails shows that the server has heard of it.
  EXPECT_TRUE(Eventually([&] { return !(*call)->Send(TokenOf(1)); }));
  Told<bool> gone;
  (*call)->OnGone([&] { gone.Add(true); });
  EXPECT_TRUE(gone.Next().has_value());
  (*call)->End(absl::CancelledError(""));
}

TEST_F(CallsTest, TellsBothSidesThatTheDeadlineHasPassed) {
  const auto asked = AskForTokens([](grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  });
  const auto call = sequences_.opened.Next();
  ASSERT_TRUE(call.has_value());
  Told<bool> gone;
  (*call)->OnGone([&] { gone.Add(true); });
  EXPECT_EQ(CodeOf(asked->end.Next()), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(gone.Next().has_value());
  (*call)->End(absl::DeadlineExceededError(""));
}

TEST_F(CallsTest, GivesUpACallThatWasNeverRead) {
  // A client's reactor that asks for nothing.
  class Deaf final : public grpc::ClientReadReactor<DecodeSequenceResponse> {
   public:
    void OnDone(const grpc::Status& status) override { end.Add(FromGrpc(status)); }
    grpc::ClientContext context;
    Told<absl::Status> end;
  } deaf;
  const DecodeSequenceRequest request;
  decode_->async()->DecodeSequence(&deaf.context, &request, &deaf);
  deaf.StartCall();
  const auto call = sequences_.opened.Next();
  ASSERT_TRUE(call.has_value());
  DecodeSequenceResponse large;
  for (int i = 0; i < 100'000; ++i) large.mutable_tokens()->add_tokens(1'000'000);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE((*call)->Send(large));
  (*call)->End(absl::OkStatus());
  EXPECT_GT((*call)->waiting(), 0u);

  // Others are served meanwhile.
  const auto asked = AskForTokens();
  const auto other = sequences_.opened.Next();
  ASSERT_TRUE(other.has_value());
  (*other)->Send(TokenOf(1));
  (*other)->End(absl::OkStatus());
  EXPECT_EQ(CodeOf(asked->end.Next()), absl::StatusCode::kOk);

  deaf.context.TryCancel();
  EXPECT_EQ(CodeOf(deaf.end.Next()), absl::StatusCode::kCancelled);
  EXPECT_TRUE(Eventually([&] { return (*call)->waiting() == 0; }));
}

TEST_F(CallsTest, EndsOpenCallsWhenTheServerShutsDown) {
  const auto asked = AskForTokens();
  const auto call = sequences_.opened.Next();
  ASSERT_TRUE(call.has_value());
  const std::shared_ptr<Tokens> answer = *call;
  answer->OnGone([answer] { answer->End(absl::UnavailableError("shutting down")); });
  const auto delivering = Deliver();
  const auto opened = transfers_.opened.Next();
  ASSERT_TRUE(opened.has_value());
  const std::shared_ptr<Parcels> parcels = *opened;
  parcels->Receive([parcels](std::optional<DeliverRequest> request) {
    if (!request.has_value()) parcels->End(absl::UnavailableError("shutting down"));
  });
  server_->Shutdown(absl::ZeroDuration());
  EXPECT_TRUE(asked->end.Next().has_value());
  EXPECT_TRUE(delivering->end.Next().has_value());
}

TEST_F(CallsTest, FailsWhenNobodyListens) {
  server_->Shutdown(absl::ZeroDuration());
  const auto asked = AskForTokens();
  EXPECT_EQ(CodeOf(asked->end.Next()), absl::StatusCode::kUnavailable);
  const auto delivering = Deliver();
  EXPECT_EQ(CodeOf(delivering->end.Next()), absl::StatusCode::kUnavailable);
  Told<absl::StatusOr<GetWorkerResponse>> told;
  const auto call = AskForWorker(told);
  const auto response = told.Next();
  ASSERT_TRUE(response.has_value());
  EXPECT_TRUE(absl::IsUnavailable(response->status())) << response->status();
}

TEST_F(CallsTest, AnswersUnaryCalls) {
  Told<absl::StatusOr<GetWorkerResponse>> told;
  auto call = AskForWorker(told);
  auto answer = replies_.opened.Next();
  ASSERT_TRUE(answer.has_value());
  GetWorkerResponse response;
  response.mutable_hello()->set_worker_id("a");
  (*answer)->End(response);
  (*answer)->End(absl::InternalError("too late"));
  auto got = told.Next();
  ASSERT_TRUE(got.has_value());
  ASSERT_TRUE(got->ok()) << got->status();
  EXPECT_EQ((*got)->hello().worker_id(), "a");

  call = AskForWorker(told);
  answer = replies_.opened.Next();
  ASSERT_TRUE(answer.has_value());
  (*answer)->End(WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(1500)));
  got = told.Next();
  ASSERT_TRUE(got.has_value());
  EXPECT_TRUE(absl::IsResourceExhausted(got->status()));
  EXPECT_EQ(RetryAfterOf(got->status()), absl::Milliseconds(1500));
}

TEST_F(CallsTest, CancelsUnaryCalls) {
  Told<absl::StatusOr<GetWorkerResponse>> told;
  const auto call = AskForWorker(told);
  const auto answer = replies_.opened.Next();
  ASSERT_TRUE(answer.has_value());
  Told<bool> gone;
  (*answer)->OnGone([&] { gone.Add(true); });
  call->Cancel();
  const auto got = told.Next();
  ASSERT_TRUE(got.has_value());
  EXPECT_TRUE(absl::IsCancelled(got->status())) << got->status();
  EXPECT_TRUE(gone.Next().has_value());
  (*answer)->End(absl::CancelledError(""));
}

// Cancels, sends and ends meet in every order.
TEST_F(CallsTest, EndsEveryCallOnceWhoeverIsFirst) {
  constexpr int kCalls = 100;
  for (int i = 0; i < kCalls; ++i) {
    const auto asked = Deliver();
    const auto opened = transfers_.opened.Next();
    ASSERT_TRUE(opened.has_value());
    const std::shared_ptr<Parcels> call = *opened;
    call->OnGone([call] { call->End(absl::CancelledError("")); });
    call->Receive([call](std::optional<DeliverRequest> request) {
      if (request.has_value()) call->Send(LandedOf(1));
    });
    std::vector<std::thread> threads;
    threads.emplace_back([&] {
      for (int k = 0; k < 20 && asked->call->Send(DeliverRequest()); ++k) {
      }
      if (i % 3 == 0) asked->call->SendLast();
    });
    threads.emplace_back([&] {
      for (int k = 0; k < 20 && call->Send(LandedOf(2)); ++k) {
      }
      if (i % 2 == 0) call->End(absl::OkStatus());
    });
    threads.emplace_back([&] {
      if (i % 4 != 0) asked->call->Cancel();
    });
    for (std::thread& thread : threads) thread.join();
    if (i % 4 == 0) call->End(absl::OkStatus());
    EXPECT_TRUE(asked->end.Next().has_value()) << i;
    asked->call->Cancel();
    EXPECT_TRUE(asked->end.empty()) << i;
    // The call's own cycle ends with gone or done.
    call->End(absl::OkStatus());
  }
}

}  // namespace
}  // namespace minicpmv
