#include "services/gateway/route.h"

#include <string>

#include "gtest/gtest.h"

namespace minicpmv::gateway {
namespace {

TEST(RouteTest, KnowsItsPaths) {
  EXPECT_EQ(RouteOf("/v1/chat/completions")->kind, Route::kChat);
  EXPECT_EQ(RouteOf("/v1/chat/completions?beta=true")->kind, Route::kChat);
  EXPECT_EQ(RouteOf("/v1/models")->model, "");
  EXPECT_EQ(RouteOf("/v1/models/a/b")->model, "a/b");
  EXPECT_TRUE(RouteOf("/health")->is_open());
  EXPECT_TRUE(RouteOf("/version")->is_open());
  EXPECT_FALSE(RouteOf("/v1/models")->is_open());
}

TEST(RouteTest, KnowsNoOthers) {
  for (const char* const target :
       {"", "/", "*", "v1/models", "/v1/models/", "/v1/models/?x", "/v1/chat/completions/",
        "//health", "/health/../v1/models", "http://host/health"}) {
    EXPECT_FALSE(RouteOf(target).has_value()) << target;
  }
}

TEST(RequestIdTest, KeepsWhatMayStandInAHeader) {
  EXPECT_EQ(RequestIdOf("req_1.a:b-C"), "req_1.a:b-C");
  EXPECT_EQ(RequestIdOf("a b\r\nX: y\"<\xc3\xa4"), "abX:y");
  EXPECT_EQ(RequestIdOf(std::string(500, 'a')).size(), 128u);
}

TEST(RequestIdTest, MakesOneWhereNoneWasSent) {
  EXPECT_EQ(RequestIdOf("").size(), 32u);
  EXPECT_NE(RequestIdOf(""), RequestIdOf(" \t"));
}

}  // namespace
}  // namespace minicpmv::gateway
