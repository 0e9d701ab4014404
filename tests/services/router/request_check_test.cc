#include "services/router/request_check.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "minicpmv/rpc/v1/error_details.pb.h"

namespace minicpmv::router {
namespace {

using Change = std::function<void(chat::v1::StreamReplyRequest&)>;

chat::v1::StreamReplyRequest Question() {
  chat::v1::StreamReplyRequest request;
  chat::v1::Message& message = *request.mutable_conversation()->add_messages();
  message.set_role(chat::v1::ROLE_USER);
  message.add_parts()->set_text("What is it?");
  return request;
}

chat::v1::Message& MessageOf(chat::v1::StreamReplyRequest& request) {
  return *request.mutable_conversation()->mutable_messages(0);
}
chat::v1::Media& AddMedia(chat::v1::StreamReplyRequest& request) {
  return *MessageOf(request).add_parts()->mutable_media();
}
chat::v1::Sampling& SamplingOf(chat::v1::StreamReplyRequest& request) {
  return *request.mutable_options()->mutable_sampling();
}

// The path of the field that a status blames; "" where it blames none.
std::string FieldOf(const absl::Status& status) {
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  rpc::v1::BadRequest bad;
  if (!payload.has_value() || !bad.ParseFromString(std::string(*payload)) ||
      bad.field_violations_size() != 1) {
    return "";
  }
  return bad.field_violations(0).field();
}

TEST(RequestCheckTest, TakesAPlainQuestion) {
  EXPECT_TRUE(CheckRequest(Question()).ok());
  chat::v1::StreamReplyRequest request = Question();
  AddMedia(request).set_inline_("bytes");
  SamplingOf(request).set_top_p(1);
  SamplingOf(request).set_top_k(0);
  request.mutable_resume()->set_sequence(1);
  EXPECT_TRUE(CheckRequest(request).ok()) << CheckRequest(request);
}

TEST(RequestCheckTest, NamesTheFieldThatIsWrong) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const std::pair<std::string, Change> cases[] = {
      {"conversation.messages", [](auto& r) { r.clear_conversation(); }},
      {"conversation.messages", [](auto& r) { MessageOf(r).set_role(chat::v1::ROLE_SYSTEM); }},
      {"conversation.messages[0].role",
       [](auto& r) { MessageOf(r).set_role(chat::v1::ROLE_UNSPECIFIED); }},
      {"conversation.messages[0].role",
       [](auto& r) { MessageOf(r).set_role(static_cast<chat::v1::Role>(77)); }},
      {"conversation.messages[0].role",
       [](auto& r) { MessageOf(r).set_role(chat::v1::ROLE_ASSISTANT); }},
      {"conversation.messages[1].role",
       [](auto& r) {
         chat::v1::Message& last = *r.mutable_conversation()->add_messages();
         last.set_role(chat::v1::ROLE_ASSISTANT);
         last.add_parts()->set_text("It is.");
       }},
      {"conversation.messages[1].role",
       [](auto& r) { r.mutable_conversation()->add_messages()->set_role(chat::v1::ROLE_SYSTEM); }},
      {"conversation.messages[0].parts", [](auto& r) { MessageOf(r).clear_parts(); }},
      {"conversation.messages[0].parts",
       [](auto& r) { MessageOf(r).mutable_parts(0)->set_text(""); }},
      {"conversation.messages[0].parts[1]", [](auto& r) { MessageOf(r).add_parts(); }},
      {"conversation.messages[0].parts[1].media", [](auto& r) { AddMedia(r); }},
      {"conversation.messages[0].parts[1].media.inline",
       [](auto& r) { AddMedia(r).set_inline_(""); }},
      {"conversation.messages[0].parts[1].media.max_slices",
       [](auto& r) {
         AddMedia(r).set_inline_("x");
         MessageOf(r).mutable_parts(1)->mutable_media()->set_max_slices(0);
       }},
      {"conversation.messages[0]",
       [](auto& r) {
         for (int i = 0; i < 65; ++i) AddMedia(r).set_inline_("x");
       }},
      {"conversation.messages[0].parts[0]",
       [](auto& r) {
         r = chat::v1::StreamReplyRequest();
         chat::v1::Message& system = *r.mutable_conversation()->add_messages();
         system.set_role(chat::v1::ROLE_SYSTEM);
         system.add_parts()->mutable_media()->set_inline_("x");
       }},
      {"options.sampling.temperature", [](auto& r) { SamplingOf(r).set_temperature(0); }},
      {"options.sampling.temperature", [=](auto& r) { SamplingOf(r).set_temperature(nan); }},
      {"options.sampling.temperature", [=](auto& r) { SamplingOf(r).set_temperature(infinity); }},
      {"options.sampling.top_p", [](auto& r) { SamplingOf(r).set_top_p(0); }},
      {"options.sampling.top_p", [](auto& r) { SamplingOf(r).set_top_p(1.5); }},
      {"options.sampling.top_p", [=](auto& r) { SamplingOf(r).set_top_p(nan); }},
      {"options.sampling.top_k", [](auto& r) { SamplingOf(r).set_top_k(UINT32_MAX); }},
      {"options.sampling.repetition_penalty",
       [](auto& r) { SamplingOf(r).set_repetition_penalty(0); }},
      {"options.sampling.repetition_penalty",
       [=](auto& r) { SamplingOf(r).set_repetition_penalty(-infinity); }},
      {"options.media.max_slices",
       [](auto& r) { r.mutable_options()->mutable_media()->set_max_slices(0); }},
      {"options.max_new_tokens", [](auto& r) { r.mutable_options()->set_max_new_tokens(0); }},
      {"options.max_new_tokens",
       [](auto& r) { r.mutable_options()->set_max_new_tokens(UINT32_MAX); }},
      {"options.min_new_tokens",
       [](auto& r) { r.mutable_options()->set_min_new_tokens(UINT32_MAX); }},
      {"options.stop[1]",
       [](auto& r) {
         r.mutable_options()->add_stop("end");
         r.mutable_options()->add_stop("");
       }},
      {"options.stop[0]", [](auto& r) { r.mutable_options()->add_stop(std::string(1025, 's')); }},
      {"options.stop",
       [](auto& r) {
         for (int i = 0; i < 10'000; ++i) r.mutable_options()->add_stop("s");
       }},
      {"resume.sequence", [](auto& r) { r.mutable_resume(); }},
      {"resume.choice",
       [](auto& r) {
         r.mutable_resume()->set_sequence(1);
         r.mutable_resume()->set_choice(1);
       }},
      {"resume.request_id",
       [](auto& r) {
         r.mutable_resume()->set_sequence(1);
         r.mutable_resume()->set_request_id(std::string(129, 'r'));
       }},
  };
  for (const auto& [field, change] : cases) {
    chat::v1::StreamReplyRequest request = Question();
    change(request);
    const absl::Status status = CheckRequest(request);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << field << ": " << status;
    EXPECT_EQ(FieldOf(status), field) << status;
  }
}

TEST(RequestCheckTest, TakesMediaOutAndKeepsThem) {
  MediaBytes media{MediaBytes::Limits()};
  const std::string handle =
      media.Publish(*media.Keep("scope", DigestOf("two"), "two", *media.Reserve(3)));
  chat::v1::StreamReplyRequest request = Question();
  AddMedia(request).set_inline_("one");
  AddMedia(request).set_handle(handle);
  const absl::StatusOr<ReceivedRequest> received = ReceiveRequest(request, "scope", media);
  ASSERT_TRUE(received.ok()) << received.status();
  ASSERT_EQ(received->chat.media.size(), 2u);
  EXPECT_EQ(received->chat.media[0].digest, DigestOf("one"));
  EXPECT_EQ(*received->chat.media[0].bytes, "one");
  EXPECT_EQ(*received->chat.media[1].bytes, "two");
  EXPECT_EQ(received->chat.cache_scope, "scope");
  EXPECT_EQ(received->chat.request.conversation().messages(0).parts(1).media().inline_(), "");
}

TEST(RequestCheckTest, RefusesAHandleOfAnotherScope) {
  MediaBytes media{MediaBytes::Limits()};
  const std::string handle =
      media.Publish(*media.Keep("scope", DigestOf("two"), "two", *media.Reserve(3)));
  chat::v1::StreamReplyRequest request = Question();
  AddMedia(request).set_handle(handle);
  const absl::Status status = ReceiveRequest(request, "another", media).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_EQ(FieldOf(status), "conversation.messages[0].parts[1].media");
}

TEST(RequestCheckTest, RefusesMediaBeyondItsBoundsByName) {
  MediaBytes::Limits limits;
  limits.one_medium = 10;
  limits.memory = limits.files = 15;
  MediaBytes media(limits);
  chat::v1::StreamReplyRequest large = Question(), many = Question();
  AddMedia(large).set_inline_(std::string(11, 'x'));
  for (const char c : {'a', 'b', 'c', 'd'}) AddMedia(many).set_inline_(std::string(9, c));
  EXPECT_EQ(FieldOf(ReceiveRequest(large, "", media).status()),
            "conversation.messages[0].parts[1].media.inline");
  const absl::Status full = ReceiveRequest(many, "", media).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_EQ(media.used(), std::make_pair(int64_t{0}, int64_t{0}));
}

TEST(RequestCheckTest, ReadsTheCacheScopeFromMetadata) {
  std::multimap<grpc::string_ref, grpc::string_ref> metadata;
  EXPECT_EQ(*CacheScopeOf(metadata), "");
  metadata.emplace(kScopeMetadata, "tenant");
  EXPECT_EQ(*CacheScopeOf(metadata), "tenant");
  metadata.emplace(kScopeMetadata, "another");
  EXPECT_TRUE(absl::IsInvalidArgument(CacheScopeOf(metadata).status()));
  const std::string long_name(65, 'n');
  metadata = {{kScopeMetadata, long_name}};
  EXPECT_TRUE(absl::IsInvalidArgument(CacheScopeOf(metadata).status()));
}

}  // namespace
}  // namespace minicpmv::router
