#include "tools/sdk/cpp/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <numeric>
#include <thread>

#include "minicpmv/rpc/v1/error_details.pb.h"
#include "tests/tools/sdk/cpp/fake_router.h"
#include "tools/sdk/cpp/reply_stream.h"

namespace minicpmv::sdk {
namespace {

using chat::v1::StreamReplyRequest;
using chat::v1::StreamReplyResponse;
using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr char kRequestId[] = "r-1";
constexpr uint64_t kSeed = 77;

StreamReplyResponse Start(uint64_t sequence) {
  StreamReplyResponse event;
  event.set_sequence(sequence);
  event.mutable_start()->set_request_id(kRequestId);
  event.mutable_start()->set_model("nano");
  event.mutable_start()->set_seed(kSeed);
  return event;
}

StreamReplyResponse Text(uint64_t sequence, const std::string& text, std::vector<uint32_t> tokens) {
  StreamReplyResponse event;
  event.set_sequence(sequence);
  event.mutable_text()->set_text(text);
  for (const uint32_t token : tokens) event.mutable_text()->add_tokens(token);
  return event;
}

StreamReplyResponse Ending(uint64_t sequence) {
  StreamReplyResponse event;
  event.set_sequence(sequence);
  event.mutable_ending()->set_finish_reason(chat::v1::FINISH_REASON_STOP);
  event.mutable_ending()->mutable_usage()->set_completion_tokens(3);
  return event;
}

// Writes the events, then ends with the status.
FakeRouter::Script Writes(std::vector<StreamReplyResponse> events,
                          grpc::Status status = grpc::Status::OK) {
  return [=](const StreamReplyRequest&, FakeRouter::Writer& writer, grpc::ServerContext&) {
    for (const StreamReplyResponse& event : events) writer.Write(event);
    return status;
  };
}

grpc::Status Gone() { return {grpc::StatusCode::UNAVAILABLE, "gone"}; }

grpc::Status Full(int64_t milliseconds) {
  rpc::v1::RetryInfo info;
  info.mutable_retry_delay()->set_nanos(static_cast<int32_t>(milliseconds * 1'000'000));
  rpc::v1::Status details;
  details.set_code(grpc::StatusCode::RESOURCE_EXHAUSTED);
  google::protobuf::Any& any = *details.add_details();
  any.set_type_url("type.googleapis.com/google.rpc.RetryInfo");
  any.set_value(info.SerializeAsString());
  return {grpc::StatusCode::RESOURCE_EXHAUSTED, "full", details.SerializeAsString()};
}

std::unique_ptr<Client> ClientOf(std::vector<std::string> servers) {
  ClientOptions options;
  options.servers = std::move(servers);
  options.pause = absl::Milliseconds(5);
  options.longest_pause = absl::Milliseconds(20);
  return *Client::Create(std::move(options));
}

StreamReplyRequest Question() {
  StreamReplyRequest request;
  chat::v1::Message& message = *request.mutable_conversation()->add_messages();
  message.set_role(chat::v1::ROLE_USER);
  message.add_parts()->set_text("Hello");
  return request;
}

// Everything that a stream brings.
struct Seen {
  absl::Status status;
  std::string text;
  std::vector<uint32_t> tokens;
  std::vector<uint64_t> sequences;
  int starts = 0, endings = 0;
};

Seen ReadAll(Client& client, StreamReplyRequest request, const CallOptions& options = {}) {
  Seen seen;
  seen.status = client.StreamReply(
      std::move(request),
      [&](const StreamReplyResponse& event) {
        seen.sequences.push_back(event.sequence());
        seen.starts += event.has_start();
        seen.endings += event.has_ending();
        seen.text += event.text().text();
        for (const uint32_t token : event.text().tokens()) seen.tokens.push_back(token);
        return absl::OkStatus();
      },
      options);
  return seen;
}

void ExpectWhole(const Seen& seen) {
  ASSERT_TRUE(seen.status.ok()) << seen.status;
  EXPECT_EQ(seen.text, "one two three");
  EXPECT_THAT(seen.tokens, ElementsAre(1, 2, 3));
  EXPECT_EQ(seen.starts, 1);
  EXPECT_EQ(seen.endings, 1);
  std::vector<uint64_t> want(seen.sequences.size());
  std::iota(want.begin(), want.end(), 1);
  EXPECT_EQ(seen.sequences, want);
}

TEST(ClientTest, StreamsAReply) {
  FakeRouter router;
  router.Then(Writes({Start(1), Text(2, "one ", {1}), Text(3, "two three", {2, 3}), Ending(4)}));
  ExpectWhole(ReadAll(*ClientOf({router.address()}), Question()));
}

TEST(ClientTest, NamesTheTraceInEveryAttempt) {
  FakeRouter router;
  std::vector<std::string> seen;  // written before each call's end, read after
  const auto note = [&](grpc::ServerContext& context) {
    for (const char* const name : {"traceparent", "tracestate"}) {
      const auto found = context.client_metadata().find(name);
      const bool is_there = found != context.client_metadata().end();
      seen.push_back(is_there ? std::string(found->second.data(), found->second.size()) : "");
    }
  };
  router.Then([&](const auto&, auto&, grpc::ServerContext& context) {
    note(context);
    return Gone();
  });
  router.Then([&](const auto&, FakeRouter::Writer& writer, grpc::ServerContext& context) {
    note(context);
    writer.Write(Start(1));
    writer.Write(Ending(2));
    return grpc::Status::OK;
  });
  CallOptions options;
  options.traceparent = "00-1-2-01";  // not the client's to judge
  options.tracestate = "a=\n";        // no metadata at all
  const auto ignore = [](const StreamReplyResponse&) { return absl::OkStatus(); };
  EXPECT_EQ(ClientOf({router.address()})->StreamReply(StreamReplyRequest(), ignore, options),
            absl::OkStatus());
  EXPECT_THAT(seen, ElementsAre("00-1-2-01", "", "00-1-2-01", ""));
}

TEST(ClientTest, ResumesABrokenStreamWithWhatHasArrived) {
  FakeRouter router;
  router.Then(Writes({Start(1), Text(2, "one ", {1}), Text(3, "", {2})}, Gone()));
  router.Then(Writes({Start(4), Text(5, "two three", {3}), Ending(6)}));
  ExpectWhole(ReadAll(*ClientOf({router.address()}), Question()));
  ASSERT_THAT(router.requests(), SizeIs(2));
  const StreamReplyRequest again = router.requests()[1];
  EXPECT_EQ(again.conversation().SerializeAsString(),
            Question().conversation().SerializeAsString());
  EXPECT_THAT(again.resume().tokens(), ElementsAre(1, 2));
  EXPECT_EQ(again.resume().text_bytes(), 4u);
  EXPECT_EQ(again.resume().sequence(), 3u);
  EXPECT_EQ(again.resume().seed(), kSeed);
  EXPECT_EQ(again.resume().request_id(), kRequestId);
}

TEST(ClientTest, ResumesOnAnotherRouterWhenOneIsGone) {
  auto first = std::make_unique<FakeRouter>();
  FakeRouter second;
  first->Then([](const StreamReplyRequest&, FakeRouter::Writer& writer, grpc::ServerContext& call) {
    writer.Write(Start(1));
    writer.Write(Text(2, "one ", {1}));
    while (!call.IsCancelled()) std::this_thread::yield();  // until the router is taken down
    return grpc::Status::CANCELLED;
  });
  second.Then(Writes({Start(3), Text(4, "two three", {2, 3}), Ending(5)}));
  const auto client = ClientOf({first->address(), second.address()});
  Seen seen;
  seen.status = client->StreamReply(Question(), [&](const StreamReplyResponse& event) {
    if (event.sequence() == 2) first = nullptr;
    seen.sequences.push_back(event.sequence());
    seen.starts += event.has_start();
    seen.endings += event.has_ending();
    seen.text += event.text().text();
    for (const uint32_t token : event.text().tokens()) seen.tokens.push_back(token);
    return absl::OkStatus();
  });
  ExpectWhole(seen);
}

TEST(ClientTest, ResumesWhenAGapShowsThatAnEventIsMissing) {
  FakeRouter router;
  router.Then(Writes({Start(1), Text(2, "one ", {1}), Text(4, "three", {3}), Ending(5)}));
  router.Then(Writes({Start(3), Text(4, "two three", {2, 3}), Ending(5)}));
  ExpectWhole(ReadAll(*ClientOf({router.address()}), Question()));
}

TEST(ClientTest, PassesOverEventsThatItHasSeen) {
  FakeRouter router;
  router.Then(Writes({Start(1), Text(2, "one ", {1}), Text(2, "one ", {1}), Start(1),
                      Text(3, "two three", {2, 3}), Ending(4)}));
  ExpectWhole(ReadAll(*ClientOf({router.address()}), Question()));
}

TEST(ClientTest, ResumesAReplyThatEndedWithoutItsEnding) {
  FakeRouter router;
  router.Then(Writes({Start(1), Text(2, "one two three", {1, 2, 3})}));
  router.Then(Writes({Start(3), Ending(4)}));
  ExpectWhole(ReadAll(*ClientOf({router.address()}), Question()));
}

TEST(ClientTest, TriesTheNextRouterBeforeTheFirstEvent) {
  FakeRouter router;
  router.Then(Writes({Start(1), Text(2, "one two three", {1, 2, 3}), Ending(3)}));
  std::string dead;
  { dead = FakeRouter().address(); }
  ExpectWhole(ReadAll(*ClientOf({dead, router.address()}), Question()));
  EXPECT_FALSE(router.requests()[0].has_resume());
}

TEST(ClientTest, ComesAgainAfterTheDelayThatAFullRouterAsksFor) {
  FakeRouter router;
  router.Then(Writes({}, Full(60)));
  router.Then(Writes({Start(1), Text(2, "one two three", {1, 2, 3}), Ending(3)}));
  const absl::Time begin = absl::Now();
  ExpectWhole(ReadAll(*ClientOf({router.address()}), Question()));
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(60));
}

TEST(ClientTest, ReturnsAtOnceWhatIsBeyondItsPatience) {
  FakeRouter router;
  router.Then(Writes({}, Full(900)));
  ClientOptions options;
  options.servers = {router.address()};
  options.patience = absl::Milliseconds(500);
  const auto client = *Client::Create(options);
  const absl::Time begin = absl::Now();
  EXPECT_EQ(ReadAll(*client, Question()).status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_LT(absl::Now() - begin, absl::Milliseconds(500));
}

TEST(ClientTest, GivesUpWhenNoRouterMakesProgress) {
  FakeRouter router;
  for (int i = 0; i < 100; ++i) router.Then(Writes({Start(1)}, Gone()));
  ClientOptions options;
  options.servers = {router.address()};
  options.patience = absl::Milliseconds(100);
  options.pause = absl::Milliseconds(10);
  const Seen seen = ReadAll(**Client::Create(options), Question());
  EXPECT_EQ(seen.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(seen.starts, 1);
  EXPECT_LT(router.requests().size(), 100u);
}

TEST(ClientTest, ReturnsErrorsOfTheCallerAsTheyCome) {
  FakeRouter router;
  router.Then(Writes({}, {grpc::StatusCode::INVALID_ARGUMENT, "conversation: empty"}));
  const Seen seen = ReadAll(*ClientOf({router.address()}), Question());
  EXPECT_EQ(seen.status, absl::InvalidArgumentError("conversation: empty"));
  EXPECT_THAT(router.requests(), SizeIs(1));
}

TEST(ClientTest, KeepsTheDeadlineOverAllAttempts) {
  FakeRouter router;
  router.Then(Writes({Start(1), Text(2, "one ", {1})}, Gone()));
  router.Then([](const StreamReplyRequest&, FakeRouter::Writer& writer, grpc::ServerContext& call) {
    writer.Write(Start(3));
    while (!call.IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  });
  const Seen seen =
      ReadAll(*ClientOf({router.address()}), Question(), {.timeout = absl::Milliseconds(300)});
  EXPECT_EQ(seen.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(seen.text, "one ");
}

TEST(ClientTest, IsCancelledWhileItWaitsForAnEvent) {
  FakeRouter router;
  router.Then([](const StreamReplyRequest&, FakeRouter::Writer& writer, grpc::ServerContext& call) {
    writer.Write(Start(1));
    while (!call.IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  });
  const auto client = ClientOf({router.address()});
  const auto stream = client->StreamReply(Question());
  ASSERT_TRUE(stream->Next().ok());
  std::thread canceller([&] { stream->Cancel(); });
  EXPECT_EQ(stream->Next().status().code(), absl::StatusCode::kCancelled);
  canceller.join();
  EXPECT_EQ(stream->Next().status().code(), absl::StatusCode::kCancelled);
}

TEST(ClientTest, IsCancelledWhileItWaitsToComeAgain) {
  FakeRouter router;
  router.Then(Writes({}, Full(10'000)));
  const auto client = ClientOf({router.address()});
  const auto stream = client->StreamReply(Question());
  std::thread canceller([&] {
    while (router.requests().empty()) std::this_thread::yield();
    stream->Cancel();
  });
  EXPECT_EQ(stream->Next().status().code(), absl::StatusCode::kCancelled);
  canceller.join();
}

TEST(ClientTest, CancelsTheReplyThatIsLetGoOf) {
  FakeRouter router;
  std::promise<void> cancelled;
  router.Then(
      [&](const StreamReplyRequest&, FakeRouter::Writer& writer, grpc::ServerContext& call) {
        writer.Write(Start(1));
        while (!call.IsCancelled()) std::this_thread::yield();
        cancelled.set_value();
        return grpc::Status::CANCELLED;
      });
  const auto client = ClientOf({router.address()});
  ASSERT_TRUE(client->StreamReply(Question())->Next().ok());
  EXPECT_EQ(cancelled.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
}

TEST(ClientTest, UploadsLargeMediaToEachRouterThatItComesTo) {
  FakeRouter first, second;
  first.Then(Writes({Start(1), Text(2, "one ", {1})}, Gone()));
  second.Then(Writes({Start(3), Text(4, "two three", {2, 3}), Ending(5)}));
  StreamReplyRequest request = Question();
  const std::string bytes((1 << 20) + 300'000, 'x');
  request.mutable_conversation()->mutable_messages(0)->add_parts()->mutable_media()->set_inline_(
      bytes);
  const auto client = ClientOf({first.address(), second.address()});
  ExpectWhole(ReadAll(*client, request));
  EXPECT_THAT(first.uploads(), ElementsAre(bytes));
  EXPECT_THAT(second.uploads(), ElementsAre(bytes));
  EXPECT_EQ(first.requests()[0].conversation().messages(0).parts(1).media().handle(),
            "handle-0@" + first.address());
  EXPECT_EQ(second.requests()[0].conversation().messages(0).parts(1).media().handle(),
            "handle-0@" + second.address());
}

TEST(ClientTest, LeavesSmallMediaInline) {
  FakeRouter router;
  router.Then(Writes({Start(1), Text(2, "one two three", {1, 2, 3}), Ending(3)}));
  StreamReplyRequest request = Question();
  request.mutable_conversation()->mutable_messages(0)->add_parts()->mutable_media()->set_inline_(
      "small");
  ExpectWhole(ReadAll(*ClientOf({router.address()}), request));
  EXPECT_EQ(router.offers(), 0);
  EXPECT_EQ(router.requests()[0].conversation().messages(0).parts(1).media().inline_(), "small");
}

TEST(ClientTest, SendsNoBytesThatAreHeld) {
  FakeRouter router;
  const auto client = ClientOf({router.address()});
  const std::string bytes(300'000, 'y');
  const auto first = client->UploadMedia(bytes), second = client->UploadMedia(bytes);
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  EXPECT_EQ(first->handle(), second->handle());
  EXPECT_THAT(router.uploads(), ElementsAre(bytes));
  EXPECT_EQ(router.offers(), 2);
}

TEST(ClientTest, JoinsAReplyAcrossABreak) {
  FakeRouter router;
  router.Then(Writes({Start(1), Text(2, "one ", {1})}, Gone()));
  router.Then(Writes({Start(3), Text(4, "two three", {2, 3}), Ending(5)}));
  chat::v1::GenerateReplyRequest request;
  *request.mutable_conversation() = Question().conversation();
  const auto response = ClientOf({router.address()})->GenerateReply(request);
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->replies_size(), 1);
  EXPECT_EQ(response->replies(0).text(), "one two three");
  EXPECT_THAT(response->replies(0).tokens(), ElementsAre(1, 2, 3));
  EXPECT_EQ(response->seed(), kSeed);
  EXPECT_EQ(response->usage().completion_tokens(), 3u);
}

TEST(ClientTest, ShowsItsTokenAndItsScope) {
  FakeRouter router;
  ClientOptions options;
  options.servers = {router.address()};
  options.token = "secret";
  options.cache_scope = "tenant";
  const auto models = (*Client::Create(options))->ListModels();
  ASSERT_TRUE(models.ok()) << models.status();
  EXPECT_EQ(models->models(0).name(), "Bearer secret|tenant");
}

TEST(ClientTest, RefusesOptionsThatMakeNoSense) {
  const auto refuses = [](const std::function<void(ClientOptions&)>& change) {
    ClientOptions options;
    options.servers = {"a:1"};
    change(options);
    return absl::IsInvalidArgument(Client::Create(options).status());
  };
  EXPECT_FALSE(refuses([](ClientOptions&) {}));
  EXPECT_TRUE(refuses([](ClientOptions& options) { options.servers.clear(); }));
  EXPECT_TRUE(refuses([](ClientOptions& options) { options.servers = {""}; }));
  EXPECT_TRUE(refuses([](ClientOptions& options) { options.cache_scope.assign(65, 's'); }));
  EXPECT_TRUE(refuses([](ClientOptions& options) { options.tls.emplace().certificate = "c"; }));
}

}  // namespace
}  // namespace minicpmv::sdk
