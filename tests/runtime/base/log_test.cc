#include "runtime/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace minicpmv {
namespace {

using ::testing::MatchesRegex;

std::string Logged(void (*log)(absl::string_view, absl::string_view), absl::string_view line,
                   absl::string_view request_id = "") {
  ::testing::internal::CaptureStderr();
  log(line, request_id);
  return ::testing::internal::GetCapturedStderr();
}

TEST(LogTest, WritesOneLineWithTimeAndLevel) {
  const std::string time = "....-..-..T..:..:......[+-]..:.. ";
  EXPECT_THAT(Logged(LogInfo, "loaded"), MatchesRegex(time + "I loaded\n"));
  EXPECT_THAT(Logged(LogWarning, "slow"), MatchesRegex(time + "W slow\n"));
  EXPECT_THAT(Logged(LogError, "lost"), MatchesRegex(time + "E lost\n"));
}

TEST(LogTest, TakesALineAsItIs) {
  EXPECT_THAT(Logged(LogInfo, "{} %s {0:x}"), MatchesRegex(".* I \\{\\} %s \\{0:x\\}\n"));
}

TEST(LogTest, NamesTheRequest) {
  EXPECT_THAT(Logged(LogInfo, "lost", "00ff"), MatchesRegex(".* I lost \\(request \"00ff\"\\)\n"));
}

// In a process of its own: there is no way back.
TEST(LogDeathTest, WritesJsonObjectsOnceToldTo) {
  const auto log = [] {
    LogJson("decode");
    LogWarning("a \"quoted\"\nline %v", "00\xff");
    LogError("lost");
    std::_Exit(IsLogJson() ? 3 : 0);
  };
  EXPECT_EXIT(log(), ::testing::ExitedWithCode(3),
              "\\{\"time\": \"....-..-..T..:..:......[+-]..:..\", \"level\": \"warning\", "
              "\"role\": \"decode\", \"message\": \"a \\\\\"quoted\\\\\"\\\\nline %v\", "
              "\"request_id\": \"00\\\\ufffd\"\\}\n"
              "\\{\"time\": .*, \"level\": \"error\", \"role\": \"decode\", "
              "\"message\": \"lost\"\\}\n");
}

}  // namespace
}  // namespace minicpmv
