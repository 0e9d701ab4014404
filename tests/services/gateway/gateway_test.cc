#include "services/gateway/gateway.h"

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status_proto.h"
#include "tests/services/common/eventually.h"
#include "tests/services/gateway/gateway_fixture.h"

namespace minicpmv::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST_F(GatewayTest, AnswersAsAWhole) {
  router_.Then(SaysAll());
  const Answer answer = Chat(kHello);
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.header, HasSubstr("Content-Type: application/json"));
  const Json json = answer.json();
  EXPECT_EQ(json["id"], "chatcmpl-r1");
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["model"], "nano");
  EXPECT_EQ(json["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(json["choices"][0]["message"]["content"], "Hello");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(json["usage"],
            Json::parse(R"({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7,
                            "prompt_tokens_details": {"cached_tokens": 3}})"));
}

TEST_F(GatewayTest, StreamsAsOpenAiDoes) {
  router_.Then(SaysAll());
  const Answer answer = Chat(kHelloStream);
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.header, HasSubstr("Content-Type: text/event-stream"));
  const std::vector<std::string> events = answer.events();
  ASSERT_GE(events.size(), 4u) << answer.body;
  EXPECT_EQ(events.back(), "[DONE]");
  std::string text;
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    const Json chunk = Json::parse(events[i]);
    EXPECT_EQ(chunk["id"], "chatcmpl-r1");
    EXPECT_EQ(chunk["object"], "chat.completion.chunk");
    EXPECT_FALSE(chunk.contains("usage"));
    const Json& choice = chunk["choices"][0];
    EXPECT_EQ(choice["delta"].contains("role"), i == 0);
    EXPECT_EQ(choice["finish_reason"].is_null(), i + 2 < events.size());
    text += choice["delta"].value("content", "");
  }
  EXPECT_EQ(text, "Hello");
  EXPECT_EQ(Json::parse(events[events.size() - 2])["choices"][0]["finish_reason"], "stop");
}

TEST_F(GatewayTest, TellsUsageInALastChunkWhereAsked) {
  router_.Then(SaysAll());
  const Answer answer = Chat(R"({"model": "nano", "stream": true, "stream_options":
      {"include_usage": true}, "messages": [{"role": "user", "content": "Hello"}]})");
  const std::vector<std::string> events = answer.events();
  ASSERT_GE(events.size(), 5u);
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    EXPECT_TRUE(Json::parse(events[i]).at("usage").is_null());
  }
  const Json last = Json::parse(events[events.size() - 2]);
  EXPECT_TRUE(last["choices"].empty());
  EXPECT_EQ(last["usage"]["total_tokens"], 7);
}

TEST_F(GatewayTest, ResumesAStreamThatBreaks) {
  router_.Then(Says({Start(1), Text(2, "Hel", 1)}, {grpc::StatusCode::UNAVAILABLE, "gone"}));
  router_.Then(Says({Start(3), Text(4, "lo", 2), Ending(5)}));
  const Answer answer = Chat(kHello);
  EXPECT_EQ(answer.json()["choices"][0]["message"]["content"], "Hello") << answer.body;
  const std::vector<chat::v1::StreamReplyRequest> requests = router_.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[1].resume().sequence(), 2u);
  EXPECT_THAT(requests[1].resume().tokens(), ElementsAre(1u));
  EXPECT_EQ(requests[1].resume().seed(), 7u);
}

TEST_F(GatewayTest, SaysAtOnceWhenToComeAgain) {
  router_.Then(Says({}, ToGrpc(WithRetryAfter(absl::ResourceExhaustedError("the queue is full"),
                                              absl::Milliseconds(2500)))));
  const Answer answer = Chat(kHelloStream);
  EXPECT_EQ(answer.status, 429);
  EXPECT_THAT(answer.header, HasSubstr("Retry-After: 3\r\n"));
  EXPECT_EQ(answer.json()["error"]["code"], "rate_limit_exceeded");
}

TEST_F(GatewayTest, AnswersAnErrorBeforeTheFirstTextWithItsStatus) {
  router_.Then(Says({Start(1)}, {grpc::StatusCode::INTERNAL, "a bug"}));
  const Answer answer = Chat(kHelloStream);
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(answer.json()["error"]["message"], "a bug");
}

TEST_F(GatewayTest, TellsAnErrorInMidStreamAsAnEvent) {
  router_.Then(Says({Start(1), Text(2, "Hel", 1)}, {grpc::StatusCode::INTERNAL, "a bug"}));
  const Answer answer = Chat(kHelloStream);
  EXPECT_EQ(answer.status, 200);
  const std::vector<std::string> events = answer.events();
  ASSERT_EQ(events.size(), 3u) << answer.body;
  EXPECT_EQ(Json::parse(events[2])["error"]["type"], "server_error");
}

TEST_F(GatewayTest, UploadsLargePictures) {
  router_.Then(SaysAll());
  const std::string base64 = std::string(4 * ((700 << 10) / 3), 'A');
  const std::string picture = absl::StrCat(
      R"({"type": "image_url", "image_url": {"url": "data:image/png;base64,)", base64, R"("}})");
  const Answer answer =
      Chat(absl::StrCat(R"({"model": "nano", "messages": [{"role": "user", "content": [)", picture,
                        ",", picture, R"(, {"type": "text", "text": "What?"}]}]})"));
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(router_.offers(), 2);
  ASSERT_EQ(router_.uploads().size(), 1u);
  EXPECT_EQ(router_.uploads()[0], std::string(base64.size() / 4 * 3, '\0'));
  const chat::v1::StreamReplyRequest request = router_.requests().at(0);
  const auto& parts = request.conversation().messages(0).parts();
  EXPECT_THAT(parts[0].media().handle(), StartsWith("handle-"));
  EXPECT_EQ(parts[1].media().handle(), parts[0].media().handle());
}

TEST_F(GatewayTest, GoesOnWithTheClientsTrace) {
  const std::string trace = "0af7651916cd43dd8448eb211c80319c", span = "b7ad6b7169203331";
  const std::string good = absl::StrCat("00-", trace, "-", span, "-01");
  struct Case {
    std::string headers;
    bool is_continued;
    std::string state;
  };
  for (const Case& one :
       {Case{absl::StrCat("traceparent: ", good, "\r\n"), true, ""},
        Case{absl::StrCat("TraceParent: ", good, "\r\nTracestate: a=1\r\ntracestate: b=2\r\n"),
             true, "a=1,b=2"},
        Case{absl::StrCat("traceparent: ", good, "\r\ntracestate: no list\r\n"), true, ""},
        Case{"", false, ""}, Case{"tracestate: a=1\r\n", false, ""},
        Case{absl::StrCat("traceparent: ", good, "\r\ntraceparent: ", good, "\r\n"), false, ""},
        Case{absl::StrCat("traceparent: ", absl::AsciiStrToUpper(good), "\r\n"), false, ""},
        Case{"traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01\r\n", false, ""},
        Case{"traceparent: x\r\ntracestate: a=1\r\n", false, ""}}) {
    Told<std::pair<std::string, std::string>> told;
    router_.Then([&](const chat::v1::StreamReplyRequest&, FakeRouter::Writer& writer,
                     grpc::ServerContext& context) {
      const auto of = [&](const char* name) {
        const auto found = context.client_metadata().find(name);
        return found == context.client_metadata().end()
                   ? std::string()
                   : std::string(found->second.data(), found->second.size());
      };
      told.Add({of("traceparent"), of("tracestate")});
      for (const Event& event : {Start(1), Text(2, "Hello", 1), Ending(3)}) writer.Write(event);
      return grpc::Status::OK;
    });
    EXPECT_EQ(Ask(LastPost(kHello, one.headers)).status, 200);
    const auto [parent, state] = *told.Next();
    EXPECT_EQ(parent.size(), good.size()) << one.headers;
    EXPECT_EQ(absl::StrContains(parent, trace), one.is_continued) << one.headers;
    EXPECT_THAT(parent, Not(HasSubstr(span)));
    EXPECT_EQ(state, one.state) << one.headers;
  }
}

TEST_F(GatewayTest, CancelsWhatNobodyWaitsFor) {
  for (const char* const body : {kHello, kHelloStream}) {
    Told<bool> begun, cancelled;
    router_.Then([&](const chat::v1::StreamReplyRequest&, FakeRouter::Writer& writer,
                     grpc::ServerContext& context) {
      writer.Write(Start(1));
      writer.Write(Text(2, "Hel", 1));
      begun.Add(true);
      cancelled.Add(Eventually([&] { return context.IsCancelled(); }));
      return grpc::Status::OK;
    });
    {
      RawSocket socket(gateway().address());
      socket.Send(Post(body));
      ASSERT_TRUE(begun.Next());
    }
    EXPECT_EQ(cancelled.Next(), true);
  }
}

TEST_F(GatewayTest, AnswersRequestsOfOneConnectionInOrder) {
  router_.Then(Says({Start(1), Text(2, "one", 1), Ending(3)}));
  router_.Then(SaysAll());
  RawSocket socket(gateway().address());
  socket.Send(Post(kHello) + Get("/nowhere"));
  const std::string answers = socket.Receive();
  EXPECT_THAT(answers, HasSubstr("one"));
  EXPECT_LT(answers.find("one"), answers.find("HTTP/1.1 404"));
  RawSocket next(gateway().address());
  next.Send(Post(kHelloStream) + Get("/health"));
  const std::string more = next.Receive();
  EXPECT_LT(more.find("[DONE]"), more.find("{\"status\":\"ok\"}"));
}

TEST_F(GatewayTest, ShowsHealthVersionAndModels) {
  EXPECT_EQ(Ask(Get("/health")).json()["status"], "ok");
  EXPECT_EQ(Ask(Get("/version")).json()["version"], "1.2.3");
  const Json models = Ask(Get("/v1/models")).json();
  EXPECT_EQ(models["object"], "list");
  EXPECT_EQ(models["data"][0]["object"], "model");
  EXPECT_EQ(Ask(Get("/v1/models/none")).json()["error"]["code"], "model_not_found");
  const Answer head = Ask("HEAD /health HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.body, "");
}

TEST_F(GatewayTest, KnowsTenantsByTheirKeys) {
  options_.keys = *ApiKeys::Parse("alice a-key-of-sixteen-letters\n", "keys");
  options_.routers.token = "the-cluster-token";
  const std::string key = "Authorization: Bearer a-key-of-sixteen-letters\r\n";
  // The name of the fake's one model is what the caller showed.
  EXPECT_EQ(Ask(Get("/v1/models", key)).json()["data"][0]["id"], "Bearer the-cluster-token|alice");
  for (const std::string& wrong :
       {std::string(), std::string("Authorization: Bearer a-key-of-sixteen-letter\r\n"),
        std::string("Authorization: a-key-of-sixteen-letters\r\n"), key + key}) {
    for (const std::string& bytes : {Get("/v1/models", wrong), Get("/nowhere", wrong),
                                     LastPost(kHello, wrong), LastPost("{", wrong)}) {
      const Answer answer = Ask(bytes);
      EXPECT_EQ(answer.status, 401) << bytes;
      EXPECT_EQ(answer.json()["error"]["code"], "invalid_api_key");
      EXPECT_THAT(answer.header, HasSubstr("WWW-Authenticate: Bearer"));
    }
  }
  EXPECT_EQ(Ask(Get("/health")).status, 200);
  EXPECT_TRUE(router_.requests().empty());
}

TEST_F(GatewayTest, NeedsKeysWhereOthersCanReachIt) {
  Metrics metrics;
  const absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve("0.0.0.0:0");
  EXPECT_TRUE(absl::IsInvalidArgument(Gateway::Start(*listen, options_, metrics).status()));
}

TEST_F(GatewayTest, SendsBackTheRequestId) {
  EXPECT_THAT(Ask(Get("/health", "X-Request-Id: my-id\r\n")).header,
              HasSubstr("x-request-id: my-id\r\n"));
  EXPECT_THAT(Ask(Get("/health", "X-Request-Id: a(b)c\r\n")).header,
              HasSubstr("x-request-id: abc\r\n"));
  EXPECT_THAT(Ask(Get("/nowhere")).header, HasSubstr("x-request-id: "));
}

TEST_F(GatewayTest, RefusesWhatItDoesNotTake) {
  options_.body_bytes = 1000;
  const std::string large(1001, ' ');
  EXPECT_EQ(Chat(large).status, 413);
  EXPECT_EQ(Ask("POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
                "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" +
                large + "\r\n0\r\n\r\n")
                .status,
            413);
  EXPECT_EQ(Ask(Get("/health", "A: " + std::string(1 << 20, 'x') + "\r\n")).status, 431);
  EXPECT_EQ(Ask(Get("/v1/chat/completions")).status, 405);
  EXPECT_EQ(Ask("POST /health HTTP/1.1\r\nContent-Length: 0\r\n\r\n").status, 405);
  EXPECT_EQ(Ask("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}").status, 415);
  EXPECT_EQ(Ask(LastPost("{}", "Content-Encoding: gzip\r\n")).status, 415);
  EXPECT_EQ(Chat("{").status, 400);
  const Answer bad = Chat(R"({"model": "nano", "messages": [{"role": "user"}]})");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(bad.json()["error"]["param"], "messages[0].content");
  EXPECT_TRUE(router_.requests().empty());
}

TEST_F(GatewayTest, TakesChunkedBodiesAndWaitsForContinue) {
  router_.Then(SaysAll());
  router_.Then(SaysAll());
  const std::string body = kHello;
  const Answer chunked = Ask(absl::StrCat(
      "POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json; charset=utf-8\r\n"
      "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5;ext=1\r\n",
      body.substr(0, 5), "\r\n", absl::Hex(body.size() - 5), "\r\n", body.substr(5),
      "\r\n0\r\nTrailer: x\r\n\r\n"));
  EXPECT_EQ(chunked.status, 200) << chunked.body;
  RawSocket socket(gateway().address());
  socket.Send(
      absl::StrCat("POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json"
                   "\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: ",
                   body.size(), "\r\n\r\n"));
  EXPECT_EQ(socket.Receive("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  socket.Send(body);
  EXPECT_EQ(Parse(socket.Receive()).status, 200);
}

TEST_F(GatewayTest, AnswersClientsOfHttpOneZero) {
  router_.Then(SaysAll());
  const std::string body = kHelloStream;
  RawSocket socket(gateway().address());
  socket.Send(
      absl::StrCat("POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json"
                   "\r\nContent-Length: ",
                   body.size(), "\r\n\r\n", body));
  const std::string answer = socket.Receive();
  EXPECT_THAT(answer, StartsWith("HTTP/1.0 200"));
  EXPECT_THAT(answer, Not(HasSubstr("chunked")));
  EXPECT_THAT(answer, ::testing::EndsWith("data: [DONE]\n\n"));
}

TEST_F(GatewayTest, LivesThroughGarbage) {
  for (const std::string& garbage :
       {std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), std::string(70'000, '\0'),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("\r\n\r\n\r\n\r\n"), std::string("GET /health HTTP/1.1\r\nA : b\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
        std::string("POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
                    "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx"),
        std::string("POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
                    "Transfer-Encoding: chunked\r\n\r\nzz\r\n")}) {
    const int status = Ask(garbage).status;
    EXPECT_TRUE(status == 0 || status >= 400) << garbage;
    EXPECT_EQ(Ask(Get("/health")).status, 200);
  }
}

TEST_F(GatewayTest, LetsGoOfClientsThatAreSlow) {
  options_.header_patience = options_.idle_patience = options_.body_patience =
      absl::Milliseconds(50);
  RawSocket silent(gateway().address()), slow(gateway().address()), slower(gateway().address()),
      idle(gateway().address());
  slow.Send("GET /heal");
  slower.Send(
      "POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
      "Content-Length: 100\r\n\r\n{");
  idle.Send("GET /health HTTP/1.1\r\n\r\n");
  EXPECT_EQ(silent.Receive(), "");
  EXPECT_EQ(slow.Receive(), "");
  EXPECT_EQ(slower.Receive(), "");
  EXPECT_THAT(idle.Receive(), Not(HasSubstr("<timeout>")));
  EXPECT_EQ(Ask(Get("/health")).status, 200);
}

TEST_F(GatewayTest, GivesUpWhatIsNotTaken) {
  options_.send_patience = absl::Milliseconds(100);
  Told<bool> cancelled;
  router_.Then([&](const chat::v1::StreamReplyRequest&, FakeRouter::Writer& writer,
                   grpc::ServerContext& context) {
    writer.Write(Start(1));
    const std::string text(100'000, 'x');
    for (uint64_t i = 2; i < 2000 && !context.IsCancelled(); ++i) writer.Write(Text(i, text, 1));
    cancelled.Add(Eventually([&] { return context.IsCancelled(); }));
    return grpc::Status::OK;
  });
  RawSocket socket(gateway().address());
  socket.Send(Post(kHelloStream));
  EXPECT_EQ(cancelled.Next(), true);
}

TEST_F(GatewayTest, TakesSoManyRequestsAndNoMore) {
  options_.requests = 1;
  Told<bool> begun, go_on;
  router_.Then(
      [&](const chat::v1::StreamReplyRequest&, FakeRouter::Writer& writer, grpc::ServerContext&) {
        begun.Add(true);
        go_on.Next();
        for (const Event& event : {Start(1), Text(2, "Hello", 1), Ending(3)}) writer.Write(event);
        return grpc::Status::OK;
      });
  RawSocket socket(gateway().address());
  socket.Send(LastPost(kHello));
  ASSERT_TRUE(begun.Next());
  const Answer refused = Chat(kHello);
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.header, HasSubstr("Retry-After: 1\r\n"));
  go_on.Add(true);
  EXPECT_EQ(Parse(socket.Receive()).status, 200);
}

TEST_F(GatewayTest, TakesSoManyConnectionsAndNoMore) {
  options_.connections = 2;
  RawSocket first(gateway().address());
  first.Send("GET /health HTTP/1.1\r\n\r\n");
  first.Receive("ok\"}");
  {
    RawSocket second(gateway().address());
    second.Send("GET /health HTTP/1.1\r\n\r\n");
    second.Receive("ok\"}");
    EXPECT_EQ(Ask(Get("/health")).status, 0);
  }
  EXPECT_TRUE(Eventually([&] { return Ask(Get("/health")).status == 200; }));
}

TEST_F(GatewayTest, LetsAnswersEndWhenItStops) {
  Told<bool> begun, go_on;
  router_.Then(
      [&](const chat::v1::StreamReplyRequest&, FakeRouter::Writer& writer, grpc::ServerContext&) {
        writer.Write(Start(1));
        begun.Add(true);
        go_on.Next();
        writer.Write(Text(2, "Hello", 1));
        writer.Write(Ending(3));
        return grpc::Status::OK;
      });
  RawSocket idle(gateway().address()), busy(gateway().address());
  idle.Send("GET /health HTTP/1.1\r\n\r\n");
  idle.Receive("ok\"}");
  busy.Send(Post(kHelloStream));
  ASSERT_TRUE(begun.Next());
  std::thread stops([&] { gateway().Shutdown(absl::Seconds(60)); });
  EXPECT_EQ(idle.Receive(), "");
  EXPECT_FALSE(RawSocket(gateway().address()).is_connected());
  go_on.Add(true);
  EXPECT_THAT(busy.Receive(), HasSubstr("[DONE]"));
  stops.join();
}

TEST_F(GatewayTest, TellsThoseWhomItGivesUpWhenItStops) {
  Told<bool> begun;
  router_.Then([&](const chat::v1::StreamReplyRequest&, FakeRouter::Writer& writer,
                   grpc::ServerContext& context) {
    writer.Write(Start(1));
    writer.Write(Text(2, "Hel", 1));
    begun.Add(true);
    Eventually([&] { return context.IsCancelled(); });
    return grpc::Status::OK;
  });
  RawSocket socket(gateway().address());
  socket.Send(Post(kHelloStream));
  ASSERT_TRUE(begun.Next());
  ASSERT_THAT(socket.Receive("Hel"), HasSubstr("Hel"));
  gateway().Shutdown(absl::ZeroDuration());
  const std::string rest = socket.Receive();
  EXPECT_THAT(rest, HasSubstr("\"error\""));
  EXPECT_THAT(rest, ::testing::EndsWith("0\r\n\r\n"));
}

TEST_F(GatewayTest, SaysThatNoRouterIsThere) {
  options_.routers.servers = {"127.0.0.1:1"};
  options_.routers.patience = absl::Milliseconds(50);
  const Answer answer = Chat(kHello);
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(answer.header, HasSubstr("Retry-After: "));
  EXPECT_EQ(Ask(Get("/v1/models")).status, 503);
}

}  // namespace
}  // namespace minicpmv::gateway
