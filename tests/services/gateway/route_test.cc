#include "services/gateway/route.h"

#include <string>

#include "gtest/gtest.h"

namespace minicpmv::gateway {
namespace {

TEST(RouteTest, KnowsItsPaths) {
  EXPECT_EQ(RouteOf("/v1/chat/completions")->kind, Route::kChat);
  EXPECT_EQ(RouteOf("/v1/chat/completions?beta=true")->kind, Route::kChat);
  EXPECT_EQ(RouteOf("/v1/models")->name, "");
  EXPECT_EQ(RouteOf("/v1/models/a/b")->name, "a/b");
  EXPECT_EQ(RouteOf("/v1/files")->kind, Route::kFiles);
  EXPECT_EQ(RouteOf("/v1/files/file-1?x")->name, "file-1");
  EXPECT_TRUE(RouteOf("/health")->is_open());
  EXPECT_TRUE(RouteOf("/version")->is_open());
  EXPECT_FALSE(RouteOf("/v1/models")->is_open());
}

TEST(RouteTest, KnowsNoOthers) {
  for (const char* const target :
       {"", "/", "*", "v1/models", "/v1/models/", "/v1/files/", "/v1/models/?x",
        "/v1/chat/completions/", "//health", "/health/../v1/models", "http://host/health"}) {
    EXPECT_FALSE(RouteOf(target).has_value()) << target;
  }
}

TEST(RouteTest, KnowsWhatMayBeDoneWithEach) {
  EXPECT_EQ(RouteOf("/v1/chat/completions")->methods(), "POST");
  EXPECT_EQ(RouteOf("/v1/files")->methods(), "GET, POST");
  EXPECT_EQ(RouteOf("/v1/files/x")->methods(), "DELETE, GET");
  EXPECT_TRUE(RouteOf("/v1/files/x")->Takes("DELETE"));
  EXPECT_TRUE(RouteOf("/health")->Takes("HEAD"));
  for (const char* const method : {"POST", "", "GET,", "GET, POST", "get", "OPTIONS"}) {
    EXPECT_FALSE(RouteOf("/health")->Takes(method)) << method;
  }
  EXPECT_FALSE(RouteOf("/v1/chat/completions")->Takes("HEAD"));
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
