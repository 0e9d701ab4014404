#include "runtime/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace minicpmv {
namespace {

using ::testing::MatchesRegex;

std::string Logged(void (*log)(absl::string_view), absl::string_view line) {
  ::testing::internal::CaptureStderr();
  log(line);
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

}  // namespace
}  // namespace minicpmv
