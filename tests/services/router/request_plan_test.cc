#include "services/router/request_plan.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/reply_settings.h"
#include "tests/services/router/nano_model.h"

namespace minicpmv::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

common::v1::MediaInfo Picture(uint32_t width, uint32_t height) {
  common::v1::MediaInfo info;
  info.set_kind(common::v1::MEDIA_KIND_IMAGE);
  info.set_width(width);
  info.set_height(height);
  info.set_stored_width(height);
  info.set_stored_height(width);
  return info;
}

// Each string is a message, the user's first; "#" stands for a medium.
ChatRequest RequestOf(const std::vector<std::vector<std::string>>& messages) {
  ChatRequest request;
  for (const auto& parts : messages) {
    chat::v1::Message& message = *request.request.mutable_conversation()->add_messages();
    const int said = request.request.conversation().messages_size();
    message.set_role(said % 2 == 1 ? chat::v1::ROLE_USER : chat::v1::ROLE_ASSISTANT);
    for (const std::string& part : parts) {
      if (part == "#") {
        message.add_parts()->mutable_media();
        const char digit = static_cast<char>('a' + request.media.size());
        request.media.push_back({std::string(32, digit), nullptr});
      } else {
        message.add_parts()->set_text(part);
      }
    }
  }
  return request;
}

TEST(RequestPlanTest, KnowsSpansTheirMediaAndTheirGeometry) {
  const ChatRequest request = RequestOf({{"#", "#", "What?"}});
  const auto plan = PlanRequest(request, {Picture(300, 200), Picture(60, 60)}, NanoModel());
  ASSERT_TRUE(plan.ok()) << plan.status();
  const common::v1::Prompt& prompt = plan->prompt;
  EXPECT_EQ(prompt.prompt_tokens(), static_cast<uint32_t>(prompt.tokens_size()));
  ASSERT_GT(prompt.spans_size(), 2);
  const auto rows = static_cast<uint32_t>(NanoModel().spec().resampler.queries);
  uint32_t end = 0;
  for (int i = 0; i < prompt.spans_size(); ++i) {
    const common::v1::Span& span = prompt.spans(i);
    EXPECT_GE(span.first_token(), end);
    EXPECT_EQ(span.rows(), rows);
    EXPECT_GT(span.slice().patch_columns() * span.slice().patch_rows(), 0u);
    EXPECT_EQ(span.media_digest(),
              request.media[plan->medium_of_span[static_cast<size_t>(i)]].digest);
    end = span.first_token() + span.rows();
  }
  const common::v1::Slice& first = prompt.spans(0).slice();
  EXPECT_EQ(first.index(), 0u);
  EXPECT_EQ(prompt.spans_size() - 2, static_cast<int>(first.grid_columns() * first.grid_rows()));
  EXPECT_EQ(plan->medium_of_span.back(), 1u);
}

TEST(RequestPlanTest, TakesAMediumsOwnSlicesOverTheRequests) {
  ChatRequest request = RequestOf({{"#", "#"}});
  request.request.mutable_options()->mutable_media()->set_max_slices(1);
  request.request.mutable_conversation()
      ->mutable_messages(0)
      ->mutable_parts(1)
      ->mutable_media()
      ->set_max_slices(4);
  const auto plan = PlanRequest(request, {Picture(300, 300), Picture(300, 300)}, NanoModel());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->medium_of_span, ElementsAre(0, 1, 1, 1, 1, 1));
  EXPECT_EQ(plan->prompt.spans(0).options().max_slices(), 1u);
  EXPECT_EQ(plan->prompt.spans(1).options().max_slices(), 4u);
}

TEST(RequestPlanTest, LaysStoredPixelsOutWhereExifIsIgnored) {
  ChatRequest request = RequestOf({{"#"}});
  const auto shown = PlanRequest(request, {Picture(300, 100)}, NanoModel());
  request.request.mutable_options()->mutable_media()->set_ignore_exif_orientation(true);
  const auto stored = PlanRequest(request, {Picture(300, 100)}, NanoModel());
  ASSERT_TRUE(shown.ok() && stored.ok());
  const common::v1::Slice &wide = shown->prompt.spans(0).slice(),
                          &high = stored->prompt.spans(0).slice();
  EXPECT_GT(wide.patch_columns(), wide.patch_rows());
  EXPECT_EQ(wide.patch_columns(), high.patch_rows());
}

TEST(RequestPlanTest, TellsConversationsThatBeginAlike) {
  const auto beginning = [](const ChatRequest& request) {
    std::vector<common::v1::MediaInfo> infos(request.media.size(), Picture(60, 60));
    return PlanRequest(request, infos, NanoModel())->beginning;
  };
  const ChatRequest first = RequestOf({{"#", "What?"}});
  const ChatRequest second = RequestOf({{"#", "What?"}, {"A dog."}, {"Which one?"}});
  EXPECT_EQ(beginning(first), beginning(second));
  EXPECT_NE(beginning(first), beginning(RequestOf({{"#", "Who?"}})));
  ChatRequest tenant = first;
  tenant.cache_scope = "another";
  EXPECT_NE(beginning(first), beginning(tenant));
}

TEST(RequestPlanTest, RefusesWhatItCannotLayOutAndNamesTheField) {
  const ChatRequest request = RequestOf({{"Look:", "#"}});
  common::v1::MediaInfo info = Picture(60, 60);
  info.set_kind(common::v1::MEDIA_KIND_VIDEO);
  absl::Status status = PlanRequest(request, {info}, NanoModel()).status();
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("conversation.messages[0].parts[1].media"));
  info = Picture(0, 60);
  EXPECT_TRUE(absl::IsInvalidArgument(PlanRequest(request, {info}, NanoModel()).status()));
  info = Picture(1u << 31, 60);
  EXPECT_TRUE(absl::IsInternal(PlanRequest(request, {info}, NanoModel()).status()));
  status = PlanRequest(RequestOf({{std::string(20'000, 'x') + " y"}}), {}, NanoModel()).status();
  EXPECT_TRUE(absl::IsOutOfRange(status)) << status;
  status = PlanRequest(RequestOf({{"Hi"}, {"Hello"}}), {}, NanoModel()).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST(ReplySettingsTest, CutsTheReplyToWhatTheContextLeaves) {
  chat::v1::ReplyOptions options;
  options.set_max_new_tokens(100'000);
  EXPECT_EQ(LimitsOf(options, NanoModel(), 2000).max_new_tokens(), 48u);
  options.set_max_new_tokens(10);
  options.set_min_new_tokens(20);
  EXPECT_EQ(LimitsOf(options, NanoModel(), 2000).max_new_tokens(), 10u);
  EXPECT_EQ(LimitsOf(options, NanoModel(), 2000).min_new_tokens(), 10u);
}

TEST(ReplySettingsTest, LeavesUnsetWhatTheClientLeftUnset) {
  chat::v1::ReplyOptions options;
  options.mutable_sampling()->set_top_p(0.5);
  const decode::v1::Sampling sampling = SamplingOf(options, 9);
  EXPECT_EQ(sampling.top_p(), 0.5);
  EXPECT_EQ(sampling.seed(), 9u);
  EXPECT_FALSE(sampling.has_temperature() || sampling.has_greedy() || sampling.has_top_k());
}

}  // namespace
}  // namespace minicpmv::router
