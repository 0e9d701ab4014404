#include "services/router/reply_writer.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/services/router/nano_model.h"

namespace minicpmv::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Collected final : ReplySink {
  void Send(chat::v1::StreamReplyResponse event) override {
    EXPECT_EQ(event.sequence(), sequence + 1);
    sequence = event.sequence();
    text += event.text().text();
    for (const uint32_t token : event.text().tokens()) tokens.push_back(token);
    events.push_back(std::move(event));
  }
  void End(const absl::Status&) override {}

  uint64_t sequence = 0;
  std::string text;
  std::vector<uint32_t> tokens;
  std::vector<chat::v1::StreamReplyResponse> events;
};

std::vector<uint32_t> TokensOf(const std::string& text) {
  const auto ids = NanoModel().tokenizer().Encode(text, Tags::kText);
  return {ids->begin(), ids->end()};
}

ReplyWriter Writer(const chat::v1::StreamReplyRequest& request, ReplySink& sink) {
  auto writer = ReplyWriter::Create(request, NanoModel(), sink);
  EXPECT_TRUE(writer.ok()) << writer.status();
  return *std::move(writer);
}

TEST(ReplyWriterTest, NumbersEventsAndEndsWithTheEnding) {
  Collected sink;
  ReplyWriter writer = Writer({}, sink);
  writer.Start("id", "nano", 7);
  writer.Push(TokensOf("Hello"));
  writer.Finish({});
  ASSERT_EQ(sink.events.size(), 3u);
  EXPECT_EQ(sink.events[0].start().request_id(), "id");
  EXPECT_EQ(sink.events[0].start().seed(), 7u);
  EXPECT_TRUE(sink.events[2].has_ending());
  EXPECT_EQ(sink.text, "Hello");
}

TEST(ReplyWriterTest, SendsNoHalfCharacterAndNoStopText) {
  chat::v1::StreamReplyRequest request;
  request.mutable_options()->add_stop("END");
  Collected sink;
  ReplyWriter writer = Writer(request, sink);
  for (const uint32_t token : TokensOf("schön 你 EN ENDE")) writer.Push({&token, 1});
  EXPECT_TRUE(writer.has_stopped());
  writer.Finish({});
  EXPECT_EQ(sink.text, "schön 你 EN ");
  EXPECT_EQ(sink.tokens, writer.tokens());
}

TEST(ReplyWriterTest, LeavesOutTokensBehindTheEnd) {
  const auto stop = static_cast<uint32_t>(NanoModel().prompts().stop_ids()[0]);
  Collected sink;
  ReplyWriter writer = Writer({}, sink);
  writer.Push({{5, stop, 6}});
  EXPECT_TRUE(writer.has_stopped());
  EXPECT_FALSE(writer.has_stop_text());
  EXPECT_THAT(sink.tokens, ElementsAre(5, stop));
}

TEST(ReplyWriterTest, GoesOnExactlyWhereAnyStreamBroke) {
  chat::v1::StreamReplyRequest request;
  request.mutable_options()->add_stop("END");
  const std::vector<uint32_t> tokens = TokensOf("ein schöner 你好 Text, EN und so END und mehr");
  Collected whole;
  ReplyWriter undisturbed = Writer(request, whole);
  undisturbed.Start("id", "nano", 7);
  for (const uint32_t token : tokens) undisturbed.Push({&token, 1});
  undisturbed.Finish({});

  for (size_t arrived = 1; arrived < whole.events.size(); ++arrived) {
    Collected client;
    for (size_t i = 0; i < arrived; ++i) client.Send(whole.events[i]);
    chat::v1::StreamReplyRequest again = request;
    chat::v1::Resume& resume = *again.mutable_resume();
    resume.mutable_tokens()->Add(client.tokens.begin(), client.tokens.end());
    resume.set_text_bytes(client.text.size());
    resume.set_sequence(client.sequence);
    ReplyWriter writer = Writer(again, client);
    writer.Start("id", "nano", 7);
    for (size_t i = client.tokens.size(); i < tokens.size(); ++i) writer.Push({&tokens[i], 1});
    writer.Finish({});
    EXPECT_EQ(client.text, whole.text) << arrived;
    EXPECT_EQ(client.tokens, whole.tokens) << arrived;
    EXPECT_TRUE(client.events.back().has_ending());
  }
}

TEST(ReplyWriterTest, RepeatsTextThatAClientLacksThoughItHasTheTokens) {
  chat::v1::StreamReplyRequest request;
  const std::vector<uint32_t> tokens = TokensOf("Hello there");
  request.mutable_resume()->mutable_tokens()->Add(tokens.begin(), tokens.end());
  request.mutable_resume()->set_text_bytes(3);
  Collected sink;
  ReplyWriter writer = Writer(request, sink);
  writer.Finish({});
  EXPECT_EQ(sink.text, "lo there");
}

TEST(ReplyWriterTest, RefusesAResumptionThatCannotBe) {
  Collected sink;
  chat::v1::StreamReplyRequest request;
  request.mutable_resume()->add_tokens(1 << 30);
  absl::Status status = ReplyWriter::Create(request, NanoModel(), sink).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("resume.tokens"));

  const auto stop = static_cast<uint32_t>(NanoModel().prompts().stop_ids()[0]);
  request.mutable_resume()->clear_tokens();
  for (const uint32_t token : {stop, 5u}) request.mutable_resume()->add_tokens(token);
  status = ReplyWriter::Create(request, NanoModel(), sink).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

}  // namespace
}  // namespace minicpmv::router
