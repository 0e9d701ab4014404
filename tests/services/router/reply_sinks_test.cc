#include "services/router/reply_sinks.h"

#include <gtest/gtest.h>

#include "services/router/virtual_loop.h"

namespace minicpmv::router {
namespace {

// A stream whose reader takes what the test lets it take.
class HeldStream final : public ResponseStream<chat::v1::StreamReplyResponse> {
 public:
  bool Send(chat::v1::StreamReplyResponse response) override {
    sent.push_back(std::move(response));
    ++waiting_;
    return true;
  }
  void End(const absl::Status& status) override {
    if (!end) end = status;
  }
  void OnGone(absl::AnyInvocable<void()>) override {}
  size_t waiting() const override { return waiting_; }

  void Take() { waiting_ = 0; }

  std::vector<chat::v1::StreamReplyResponse> sent;
  std::optional<absl::Status> end;

 private:
  size_t waiting_ = 0;
};

chat::v1::StreamReplyResponse Start() {
  chat::v1::StreamReplyResponse event;
  event.mutable_start()->set_request_id("r");
  return event;
}
chat::v1::StreamReplyResponse Text(uint32_t token) {
  chat::v1::StreamReplyResponse event;
  event.mutable_text()->set_text("x");
  event.mutable_text()->add_tokens(token);
  return event;
}
chat::v1::StreamReplyResponse Ending() {
  chat::v1::StreamReplyResponse event;
  event.mutable_ending()->set_finish_reason(chat::v1::FINISH_REASON_STOP);
  return event;
}

class StreamSinkTest : public ::testing::Test {
 protected:
  StreamSinkTest() {
    ReplyKeeping keeping;
    keeping.record = std::make_unique<ReplyRecord>(watch_, loop_, absl::InfiniteFuture(), true);
    sink_ = std::make_unique<StreamSink>(stream_, 40, std::move(keeping));
  }

  // Everything that was sent, as a client would put it together.
  void ExpectWhole(uint32_t tokens) {
    uint64_t sequence = 40;
    uint32_t next = 0;
    size_t text = 0;
    for (const chat::v1::StreamReplyResponse& event : stream_->sent) {
      EXPECT_EQ(event.sequence(), ++sequence);
      for (const uint32_t token : event.text().tokens()) EXPECT_EQ(token, next++);
      text += event.text().text().size();
    }
    EXPECT_EQ(next, tokens);
    EXPECT_EQ(text, tokens);
    EXPECT_TRUE(stream_->sent.front().has_start());
    EXPECT_TRUE(stream_->sent.back().has_ending());
  }

  VirtualLoop loop_;
  Metrics metrics_;
  RouterMetrics watch_{metrics_};
  std::shared_ptr<HeldStream> stream_ = std::make_shared<HeldStream>();
  std::unique_ptr<StreamSink> sink_;
};

TEST_F(StreamSinkTest, SendsEachEventWhereTheReaderKeepsUp) {
  sink_->Send(Start());
  for (uint32_t i = 0; i < 100; ++i) {
    sink_->Send(Text(i));
    stream_->Take();
  }
  sink_->Send(Ending());
  sink_->End(absl::OkStatus());
  EXPECT_EQ(stream_->sent.size(), 102u);
  EXPECT_EQ(stream_->end, absl::OkStatus());
  ExpectWhole(100);
}

TEST_F(StreamSinkTest, JoinsTextsForAReaderThatDoesNotRead) {
  sink_->Send(Start());
  for (uint32_t i = 0; i < 10'000; ++i) sink_->Send(Text(i));
  sink_->Send(Ending());
  sink_->End(absl::OkStatus());
  EXPECT_LT(stream_->sent.size(), 12u);
  ExpectWhole(10'000);
}

TEST_F(StreamSinkTest, GoesOnByEventsWhenTheReaderHasCaughtUp) {
  sink_->Send(Start());
  for (uint32_t i = 0; i < 100; ++i) sink_->Send(Text(i));
  stream_->Take();
  for (uint32_t i = 100; i < 120; ++i) {
    sink_->Send(Text(i));
    stream_->Take();
  }
  sink_->Send(Ending());
  sink_->End(absl::OkStatus());
  EXPECT_GT(stream_->sent.size(), 25u);
  ExpectWhole(120);
}

TEST_F(StreamSinkTest, EndsTheCallThatTheRouterLetsGoOf) {
  sink_->Send(Start());
  sink_ = nullptr;
  ASSERT_TRUE(stream_->end.has_value());
  EXPECT_TRUE(absl::IsCancelled(*stream_->end));
  EXPECT_NE(metrics_.Text().find("minicpmv_cancellations_total{by=\"client\"} 1"),
            std::string::npos);
}

TEST_F(StreamSinkTest, CountsEachReplyOnce) {
  EXPECT_NE(metrics_.Text().find("minicpmv_requests_in_flight 1"), std::string::npos);
  sink_->End(absl::UnavailableError("gone"));
  sink_ = nullptr;
  const std::string text = metrics_.Text();
  EXPECT_NE(text.find("minicpmv_requests_in_flight 0"), std::string::npos);
  EXPECT_NE(text.find("minicpmv_requests_total{code=\"UNAVAILABLE\",stream=\"true\"} 1"),
            std::string::npos);
  EXPECT_NE(text.find("minicpmv_requests_total{code=\"OK\",stream=\"true\"} 0"), std::string::npos);
}

}  // namespace
}  // namespace minicpmv::router
