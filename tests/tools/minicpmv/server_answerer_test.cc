#include "tools/minicpmv/server_answerer.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "tests/tools/sdk/cpp/fake_router.h"

namespace minicpmv {
namespace {

using chat::v1::StreamReplyRequest;
using chat::v1::StreamReplyResponse;

Conversation Question() {
  Conversation conversation;
  conversation.pictures.push_back({"a.png", "bytes"});
  conversation.messages.push_back({"system", {{"Be brief."}}});
  conversation.messages.push_back({"user", {{"", /*is_image=*/true}, {"What is it?"}}});
  return conversation;
}

TEST(ServerAnswererTest, AsksWithEveryOption) {
  ReplyOptions options;
  options.temperature = 0.5;
  options.top_p = 0.9;
  options.top_k = 7;
  options.repetition_penalty = 1.5;
  options.max_new_tokens = 33;
  options.min_new_tokens = 3;
  options.seed = UINT64_MAX;
  options.greedy = true;
  options.stop = {"a", "b"};
  options.max_slices = 4;
  options.image_ids = false;
  options.exif = Exif::kIgnore;
  options.reference_quirks = true;
  const absl::StatusOr<StreamReplyRequest> request = RequestOf(Question(), options);
  ASSERT_TRUE(request.ok()) << request.status();
  const chat::v1::Conversation& conversation = request->conversation();
  ASSERT_EQ(conversation.messages_size(), 2);
  EXPECT_EQ(conversation.messages(0).role(), chat::v1::ROLE_SYSTEM);
  EXPECT_EQ(conversation.messages(1).parts(0).media().inline_(), "bytes");
  EXPECT_EQ(conversation.messages(1).parts(1).text(), "What is it?");
  const chat::v1::Sampling& sampling = request->options().sampling();
  EXPECT_EQ(sampling.temperature(), 0.5);
  EXPECT_EQ(sampling.top_p(), 0.9);
  EXPECT_EQ(sampling.top_k(), 7u);
  EXPECT_EQ(sampling.repetition_penalty(), 1.5);
  EXPECT_EQ(sampling.seed(), UINT64_MAX);
  EXPECT_TRUE(sampling.greedy());
  EXPECT_EQ(request->options().max_new_tokens(), 33u);
  EXPECT_EQ(request->options().min_new_tokens(), 3u);
  EXPECT_EQ(request->options().stop_size(), 2);
  EXPECT_EQ(request->options().media().max_slices(), 4u);
  EXPECT_FALSE(request->options().media().use_image_id());
  EXPECT_TRUE(request->options().media().has_use_image_id());
  EXPECT_TRUE(request->options().media().ignore_exif_orientation());
  EXPECT_TRUE(request->options().reference_quirks());
}

TEST(ServerAnswererTest, LeavesToTheModelWhatIsNotSet) {
  const absl::StatusOr<StreamReplyRequest> request = RequestOf(Question(), {});
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->options().sampling().ByteSizeLong(), 0u);
  EXPECT_EQ(request->options().media().ByteSizeLong(), 0u);
  EXPECT_FALSE(request->options().has_max_new_tokens());
  EXPECT_FALSE(request->options().has_min_new_tokens());
}

TEST(ServerAnswererTest, NamesTheMessageThatCannotBeSent) {
  Conversation unknown = Question(), bytes = Question();
  unknown.messages[0].role = "robot";
  bytes.messages[1].parts[1].text = "\xFF";
  EXPECT_EQ(RequestOf(unknown, {}).status(),
            absl::InvalidArgumentError(
                "message 1 has the role \"robot\"; roles are system, user and assistant"));
  EXPECT_EQ(RequestOf(bytes, {}).status(),
            absl::InvalidArgumentError("message 2 is not UTF-8 at byte 0"));
}

std::unique_ptr<sdk::Client> ClientOf(const FakeRouter& router) {
  sdk::ClientOptions options;
  options.servers = {router.address()};
  return *sdk::Client::Create(std::move(options));
}

StreamReplyResponse Start() {
  StreamReplyResponse event;
  event.set_sequence(1);
  event.mutable_start()->set_seed(7);
  return event;
}
StreamReplyResponse Text() {
  StreamReplyResponse event;
  event.set_sequence(2);
  event.mutable_text()->set_text("Two.");
  event.mutable_text()->add_tokens(4);
  return event;
}

TEST(ServerAnswererTest, ShowsTheBillThatTheServerSends) {
  FakeRouter router;
  router.Then([](const StreamReplyRequest&, FakeRouter::Writer& writer, grpc::ServerContext&) {
    writer.Write(Start());
    writer.Write(Text());
    StreamReplyResponse event;
    event.set_sequence(3);
    chat::v1::ReplyEnding& ending = *event.mutable_ending();
    ending.set_finish_reason(chat::v1::FINISH_REASON_LENGTH);
    ending.mutable_usage()->set_prompt_tokens(80);
    ending.mutable_bill()->mutable_encode()->set_nanos(250'000'000);
    ending.mutable_bill()->mutable_total()->set_seconds(2);
    chat::v1::StageTime& stage = *ending.mutable_bill()->add_stages();
    stage.set_stage("encode");
    stage.mutable_end()->set_nanos(250'000'000);
    writer.Write(event);
    return grpc::Status::OK;
  });
  ServerAnswerer answerer(ClientOf(router), {});
  std::string shown;
  const absl::StatusOr<Answer> answer = answerer.Reply(Question(), [&](absl::string_view piece) {
    shown += std::string(piece);
    return absl::OkStatus();
  });
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(shown, "Two.");
  EXPECT_EQ(JsonOf(*answer),
            "{\"text\":\"Two.\",\"tokens\":[4],\"finish_reason\":\"length\",\"usage\":{\"prompt_"
            "tokens\":80,\"completion_tokens\":1},\"seconds\":{\"queue\":0.0,\"media\":0.0,"
            "\"encode\":0.25,\"transfer\":0.0,\"prefill\":0.0,\"decode\":0.0,\"total\":2.0},"
            "\"spans\":[{\"stage\":\"encode\",\"start\":0.0,\"end\":0.25}],\"seed\":7}\n");
}

TEST(ServerAnswererTest, EndsWithWhatItHasWhenItIsCancelled) {
  FakeRouter router;
  router.Then([](const StreamReplyRequest&, FakeRouter::Writer& writer, grpc::ServerContext& call) {
    writer.Write(Start());
    writer.Write(Text());
    while (!call.IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  });
  ServerAnswerer answerer(ClientOf(router), {});
  const absl::StatusOr<Answer> answer = answerer.Reply(Question(), [&](absl::string_view) {
    answerer.Cancel();
    return absl::OkStatus();
  });
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->text, "Two.");
}

TEST(ServerAnswererTest, BringsAPictureToTheServerToCheckIt) {
  FakeRouter router;
  ServerAnswerer answerer(ClientOf(router), {});
  EXPECT_TRUE(answerer.CheckLastPicture(Question()).ok());
  EXPECT_EQ(router.uploads(), std::vector<std::string>{"bytes"});
}

}  // namespace
}  // namespace minicpmv
