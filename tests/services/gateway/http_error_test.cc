#include "services/gateway/http_error.h"

#include <nlohmann/json.hpp>

#include "gtest/gtest.h"
#include "services/common/status_proto.h"

namespace minicpmv::gateway {
namespace {

TEST(HttpErrorTest, SpeaksAsOpenAiDoes) {
  const struct {
    absl::StatusCode code;
    int status;
    std::string type, error_code;
    bool retry;
  } cases[] = {
      {absl::StatusCode::kInvalidArgument, 400, "invalid_request_error", "", false},
      {absl::StatusCode::kUnimplemented, 400, "invalid_request_error", "unsupported_parameter",
       false},
      {absl::StatusCode::kOutOfRange, 400, "invalid_request_error", "context_length_exceeded",
       false},
      {absl::StatusCode::kNotFound, 404, "invalid_request_error", "model_not_found", false},
      {absl::StatusCode::kResourceExhausted, 429, "rate_limit_exceeded", "rate_limit_exceeded",
       true},
      {absl::StatusCode::kUnavailable, 503, "overloaded", "overloaded", true},
      {absl::StatusCode::kAborted, 503, "overloaded", "overloaded", true},
      {absl::StatusCode::kDeadlineExceeded, 504, "server_error", "timeout", false},
      {absl::StatusCode::kInternal, 500, "server_error", "internal_error", false},
      {absl::StatusCode::kUnauthenticated, 500, "server_error", "internal_error", false},
  };
  for (const auto& one : cases) {
    const HttpError error = HttpErrorOf(absl::Status(one.code, "words"));
    EXPECT_EQ(error.status, one.status) << one.code;
    EXPECT_EQ(error.type, one.type) << one.code;
    EXPECT_EQ(error.code, one.error_code) << one.code;
    EXPECT_EQ(error.retry_after.has_value(), one.retry) << one.code;
  }
}

TEST(HttpErrorTest, AsksForWholeSecondsOfPatience) {
  const absl::Status full = absl::ResourceExhaustedError("full");
  EXPECT_EQ(HttpErrorOf(WithRetryAfter(full, absl::Milliseconds(2001))).retry_after, 3);
  EXPECT_EQ(HttpErrorOf(WithRetryAfter(full, absl::ZeroDuration())).retry_after, 1);
  EXPECT_EQ(HttpErrorOf(full).retry_after, 1);
}

TEST(HttpErrorTest, NamesFieldsAsClientsDo) {
  const auto param = [](absl::string_view field) {
    return HttpErrorOf(WithField(absl::InvalidArgumentError("x"), field)).param;
  };
  EXPECT_EQ(param("conversation.messages[2].parts[0].media"), "messages[2].content[0].media");
  EXPECT_EQ(param("conversation.messages"), "messages");
  EXPECT_EQ(param("options.sampling.top_p"), "top_p");
  EXPECT_EQ(param("options.max_new_tokens"), "max_completion_tokens");
  EXPECT_EQ(param("options.stop[3]"), "stop[3]");
  EXPECT_EQ(HttpErrorOf(WithField(absl::NotFoundError("x"), "conversation.messages[0]")).code,
            "media_not_found");
}

TEST(HttpErrorTest, WritesJsonWhateverTheWords) {
  HttpError error = BadRequest("a \"quote\", \n and \xff\xfe");
  const nlohmann::json body = nlohmann::json::parse(error.Body());
  EXPECT_EQ(body["error"]["type"], "invalid_request_error");
  EXPECT_TRUE(body["error"]["param"].is_null());
  EXPECT_TRUE(body["error"]["code"].is_null());
  EXPECT_EQ(body["error"].size(), 4u);
}

}  // namespace
}  // namespace minicpmv::gateway
