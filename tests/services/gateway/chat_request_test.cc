#include "services/gateway/chat_request.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/json_file.h"

namespace minicpmv::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A sound request with one field more.
std::string With(const std::string& more) {
  return absl::StrCat(R"({"model": "nano", "messages": [{"role": "user", "content": "Hello"}])",
                      more.empty() ? "" : ", ", more, "}");
}
std::string WithMessages(const std::string& messages) {
  return absl::StrCat(R"({"model": "nano", "messages": )", messages, "}");
}
std::string WithPicture(const std::string& image_url) {
  return WithMessages(absl::StrCat(
      R"([{"role": "user", "content": [{"type": "image_url", "image_url": )", image_url, "}]}]"));
}

ChatRequest Read(const std::string& body) {
  absl::StatusOr<ChatRequest> request = ReadChatRequest(body, RemoteHosts());
  EXPECT_TRUE(request.ok()) << body << ": " << request.status();
  return request.ok() ? *std::move(request) : ChatRequest();
}

TEST(ChatRequestTest, ReadsAConversation) {
  const ChatRequest request = Read(R"({"model": "nano", "messages": [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "name": "ann", "content": [
      {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj", "detail": "low"}},
      {"type": "image_url", "image_url": {"url": "media:abc@1", "detail": "auto"}},
      {"type": "text", "text": "What?"}]},
    {"role": "assistant", "content": "This.", "tool_calls": [], "refusal": null},
    {"role": "user", "content": "And?"}]})");
  const auto& messages = request.reply.conversation().messages();
  ASSERT_EQ(messages.size(), 4);
  EXPECT_EQ(messages[0].role(), chat::v1::ROLE_SYSTEM);
  ASSERT_EQ(messages[1].parts_size(), 3);
  EXPECT_EQ(messages[1].parts(0).media().inline_(), "abc");
  EXPECT_EQ(messages[1].parts(0).media().max_slices(), 1u);
  EXPECT_EQ(messages[1].parts(1).media().handle(), "abc@1");
  EXPECT_FALSE(messages[1].parts(1).media().has_max_slices());
  EXPECT_EQ(messages[1].parts(2).text(), "What?");
  EXPECT_EQ(messages[2].role(), chat::v1::ROLE_ASSISTANT);
  EXPECT_EQ(request.reply.model(), "nano");
  EXPECT_FALSE(request.stream);
}

TEST(ChatRequestTest, SaysWhereFilesBelong) {
  const ChatRequest request = Read(WithMessages(R"([
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What?"},
      {"type": "image_url", "image_url": {"url": "file-a", "detail": "low"}},
      {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}},
      {"type": "image_url", "image_url": {"url": "file-b"}}]}])"));
  ASSERT_EQ(request.references.size(), 2u);
  const PictureReference &first = request.references[0], &second = request.references[1];
  EXPECT_EQ(first.name, "file-a");
  EXPECT_EQ(std::pair(first.message, first.part), std::pair(1, 1));
  EXPECT_EQ(first.field, "messages[1].content[1].image_url.url");
  EXPECT_EQ(second.name, "file-b");
  EXPECT_EQ(std::pair(second.message, second.part), std::pair(1, 3));
  const chat::v1::Media& media = request.reply.conversation().messages(1).parts(1).media();
  EXPECT_EQ(media.source_case(), chat::v1::Media::SOURCE_NOT_SET);
  EXPECT_EQ(media.max_slices(), 1u);
}

TEST(ChatRequestTest, TakesAddressesOfListedHosts) {
  const RemoteHosts hosts = *RemoteHosts::Parse({"images.example.org"});
  const absl::StatusOr<ChatRequest> taken = ReadChatRequest(
      WithPicture(R"({"url": "https://images.example.org/a.png", "detail": "low"})"), hosts);
  ASSERT_TRUE(taken.ok()) << taken.status();
  ASSERT_EQ(taken->references.size(), 1u);
  EXPECT_TRUE(taken->references[0].is_remote);
  EXPECT_EQ(taken->references[0].name, "https://images.example.org/a.png");
  const absl::Status refused =
      ReadChatRequest(WithPicture(R"({"url": "https://example.org/a.png"})"), hosts).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_EQ(JsonObject::FieldOf(refused), "messages[0].content[0].image_url.url");
}

TEST(ChatRequestTest, LeavesToTheModelWhatIsNotSaid) {
  const chat::v1::ReplyOptions options = Read(With("")).reply.options();
  EXPECT_FALSE(options.has_max_new_tokens());
  EXPECT_FALSE(options.has_min_new_tokens());
  const chat::v1::Sampling& sampling = options.sampling();
  EXPECT_FALSE(sampling.has_greedy() || sampling.has_temperature() || sampling.has_top_p() ||
               sampling.has_top_k() || sampling.has_repetition_penalty() || sampling.has_seed());
  EXPECT_FALSE(options.media().has_max_slices() || options.media().has_use_image_id());
}

TEST(ChatRequestTest, ReadsOptions) {
  const ChatRequest request = Read(With(R"("stream": true,
    "stream_options": {"include_usage": true}, "max_tokens": 7, "max_completion_tokens": 9,
    "min_tokens": 2, "temperature": 0.5, "top_p": 0.25, "top_k": 4, "repetition_penalty": 1.5,
    "seed": 18446744073709551615, "stop": ["a", "b"],
    "mm_processor_kwargs": {"max_slice_nums": 3, "use_image_id": false, "other": 1})"));
  EXPECT_TRUE(request.stream && request.include_usage);
  const chat::v1::ReplyOptions& options = request.reply.options();
  EXPECT_EQ(options.max_new_tokens(), 9u);
  EXPECT_EQ(options.min_new_tokens(), 2u);
  EXPECT_EQ(options.sampling().temperature(), 0.5);
  EXPECT_EQ(options.sampling().top_p(), 0.25);
  EXPECT_EQ(options.sampling().top_k(), 4u);
  EXPECT_EQ(options.sampling().repetition_penalty(), 1.5);
  EXPECT_EQ(options.sampling().seed(), UINT64_MAX);
  EXPECT_FALSE(options.sampling().has_greedy());
  EXPECT_THAT(options.stop(), ElementsAre("a", "b"));
  EXPECT_EQ(options.media().max_slices(), 3u);
  EXPECT_FALSE(options.media().use_image_id());
}

TEST(ChatRequestTest, ReadsOtherWaysToSayIt) {
  EXPECT_EQ(Read(With(R"("max_tokens": 7)")).reply.options().max_new_tokens(), 7u);
  EXPECT_TRUE(Read(With(R"("temperature": 0)")).reply.options().sampling().greedy());
  EXPECT_EQ(Read(With(R"("top_k": -1)")).reply.options().sampling().top_k(), 0u);
  EXPECT_EQ(Read(With(R"("seed": -1)")).reply.options().sampling().seed(), UINT64_MAX);
  EXPECT_THAT(Read(With(R"("stop": "x")")).reply.options().stop(), ElementsAre("x"));
  EXPECT_TRUE(Read(With(R"("stop": null, "seed": null)")).reply.options().stop().empty());
}

TEST(ChatRequestTest, PassesOverWhatItDoesNotKnowAndWhatAsksForNothing) {
  for (const char* const more :
       {R"("unknown": {"deep": [1, 2]})", R"("user": "ann", "metadata": {"a": "b"})",
        R"("n": 1, "logprobs": false, "top_logprobs": 0, "logit_bias": {})",
        R"("tools": [], "tool_choice": "none", "parallel_tool_calls": true)",
        R"("response_format": {"type": "text"}, "modalities": ["text"])",
        R"("frequency_penalty": 0, "presence_penalty": 0.0, "store": false)",
        R"("min_p": 0, "stop_token_ids": [], "ignore_eos": false, "priority": 0)",
        R"("n": null, "tools": null, "response_format": null, "stream_options": null)"}) {
    Read(With(more));
  }
}

TEST(ChatRequestTest, RefusesByNameWhatItCannotHonour) {
  for (const auto& [more, field] : std::initializer_list<std::pair<std::string, std::string>>{
           {R"("n": 2)", "n"},
           {R"("logprobs": true)", "logprobs"},
           {R"("top_logprobs": 3)", "top_logprobs"},
           {R"("logit_bias": {"50": -100})", "logit_bias"},
           {R"("tools": [{"type": "function"}])", "tools"},
           {R"("tool_choice": "required")", "tool_choice"},
           {R"("tool_choice": {"type": "function"})", "tool_choice"},
           {R"("response_format": {"type": "json_object"})", "response_format"},
           {R"("frequency_penalty": 0.5)", "frequency_penalty"},
           {R"("presence_penalty": -2)", "presence_penalty"},
           {R"("modalities": ["text", "audio"])", "modalities"},
           {R"("audio": {"voice": "x"})", "audio"},
           {R"("min_p": 0.1)", "min_p"},
           {R"("stop_token_ids": [7])", "stop_token_ids"},
           {R"("ignore_eos": true)", "ignore_eos"},
           {R"("priority": 1)", "priority"},
           {R"("cache_salt": "x")", "cache_salt"},
           {R"("guided_json": {})", "guided_json"},
       }) {
    const absl::Status status = ReadChatRequest(With(more), RemoteHosts()).status();
    EXPECT_TRUE(absl::IsUnimplemented(status)) << more << ": " << status;
    EXPECT_EQ(JsonObject::FieldOf(status), field) << more;
  }
  for (const auto& [messages, field] : std::initializer_list<std::pair<std::string, std::string>>{
           {R"([{"role": "tool", "content": "x", "tool_call_id": "1"}])", "messages[0].role"},
           {R"([{"role": "assistant", "tool_calls": [{"id": "1"}]}])", "messages[0].tool_calls"},
           {R"([{"role": "user", "content": [{"type": "input_audio"}]}])",
            "messages[0].content[0].type"},
           {R"([{"role": "user", "content": [{"type": "image_url",
                 "image_url": {"url": "https://example.com/a.png"}}]}])",
            "messages[0].content[0].image_url.url"},
       }) {
    const absl::Status status = ReadChatRequest(WithMessages(messages), RemoteHosts()).status();
    EXPECT_TRUE(absl::IsUnimplemented(status)) << messages << ": " << status;
    EXPECT_EQ(JsonObject::FieldOf(status), field) << messages;
  }
}

TEST(ChatRequestTest, NamesTheFieldOfABadBody) {
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  for (const auto& [body, field] : std::initializer_list<std::pair<std::string, std::string>>{
           {"", ""},
           {"{", ""},
           {"[]", ""},
           {"\"text\"", ""},
           {std::string("{\"model\": \"x\"\0}", 15), ""},
           {"{\"model\": \"\xff\"}", ""},
           {With(R"("a": )" + deep), ""},
           {With(R"("temperature": 1e400)"), ""},
           {With(R"("temperature": NaN)"), ""},
           {R"({"messages": []})", "model"},
           {R"({"model": 1, "messages": []})", "model"},
           {R"({"model": "x"})", "messages"},
           {WithMessages("\"x\""), "messages"},
           {WithMessages("[1]"), "messages[0]"},
           {WithMessages(R"([{"content": "x"}])"), "messages[0].role"},
           {WithMessages(R"([{"role": 1, "content": "x"}])"), "messages[0].role"},
           {WithMessages(R"([{"role": "cook", "content": "x"}])"), "messages[0].role"},
           {WithMessages(R"([{"role": "user"}])"), "messages[0].content"},
           {WithMessages(R"([{"role": "user", "content": 5}])"), "messages[0].content"},
           {WithMessages(R"([{"role": "user", "content": [{"type": "text"}]}])"),
            "messages[0].content[0].text"},
           {WithPicture("5"), "messages[0].content[0].image_url"},
           {WithPicture("{}"), "messages[0].content[0].image_url.url"},
           {WithPicture(R"({"url": ""})"), "messages[0].content[0].image_url.url"},
           {WithPicture(R"({"url": "a.png"})"), "messages[0].content[0].image_url.url"},
           {WithPicture(R"({"url": "/etc/passwd"})"), "messages[0].content[0].image_url.url"},
           {WithPicture(R"({"url": "file:///etc/passwd"})"),
            "messages[0].content[0].image_url.url"},
           {WithPicture(R"({"url": "data:image/png,abc"})"),
            "messages[0].content[0].image_url.url"},
           {WithPicture(R"({"url": "data:image/png;base64,???"})"),
            "messages[0].content[0].image_url.url"},
           {WithPicture(R"({"url": "media:x", "detail": "most"})"),
            "messages[0].content[0].image_url.detail"},
           {With(R"("stream": 1)"), "stream"},
           {With(R"("stream_options": {})"), "stream_options"},
           {With(R"("stream": true, "stream_options": {"include_usage": 1})"),
            "stream_options.include_usage"},
           {With(R"("max_tokens": 0)"), "max_tokens"},
           {With(R"("max_completion_tokens": -1)"), "max_completion_tokens"},
           {With(R"("max_tokens": 1.5)"), "max_tokens"},
           {With(R"("max_tokens": 4294967297)"), "max_tokens"},
           {With(R"("min_tokens": -1)"), "min_tokens"},
           {With(R"("temperature": "hot")"), "temperature"},
           {With(R"("top_k": -2)"), "top_k"},
           {With(R"("top_k": 1e3)"), "top_k"},
           {With(R"("seed": 0.5)"), "seed"},
           {With(R"("seed": "7")"), "seed"},
           {With(R"("stop": [1])"), "stop[0]"},
           {With(R"("stop": {})"), "stop"},
           {With(R"("n": "2")"), "n"},
           {With(R"("logprobs": 1)"), "logprobs"},
           {With(R"("response_format": {})"), "response_format.type"},
           {With(R"("mm_processor_kwargs": [])"), "mm_processor_kwargs"},
           {With(R"("mm_processor_kwargs": {"max_slice_nums": 0})"),
            "mm_processor_kwargs.max_slice_nums"},
       }) {
    const absl::Status status = ReadChatRequest(body, RemoteHosts()).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << body << ": " << status;
    EXPECT_EQ(JsonObject::FieldOf(status), field) << body << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("body: ")) << body;
  }
}

TEST(ChatRequestTest, RefusesMorePicturesThanAConversationMayShow) {
  std::string parts;
  for (int i = 0; i < 65; ++i) {
    absl::StrAppend(&parts, i == 0 ? "" : ",",
                    R"({"type": "image_url", "image_url": {"url": "media:x"}})");
  }
  const absl::Status status =
      ReadChatRequest(WithMessages(R"([{"role": "user", "content": [)" + parts + "]}]"),
                      RemoteHosts())
          .status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(JsonObject::FieldOf(status), "messages[0].content[64].image_url.url");
}

}  // namespace
}  // namespace minicpmv::gateway
