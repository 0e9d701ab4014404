#include "runtime/engine/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

namespace minicpmv {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(SamplingSettingsTest, TheDefaultsAreValid) {
  EXPECT_TRUE(Validate(SamplingSettings(), 504).ok());
}

TEST(SamplingSettingsTest, TheEdgesAreValid) {
  SamplingSettings settings;
  settings.temperature = std::numeric_limits<double>::denorm_min();
  settings.top_p = 1e-300;
  settings.top_k = kMaxTopK;
  settings.repetition_penalty = kMaxPenalty;
  settings.min_new_tokens = settings.max_new_tokens = std::numeric_limits<int64_t>::max();
  settings.stop_ids = {0, 503};
  EXPECT_TRUE(Validate(settings, 504).ok());
}

TEST(SamplingSettingsTest, NamesTheFieldThatIsWrong) {
  const std::vector<std::pair<std::string, std::function<void(SamplingSettings&)>>> cases = {
      {"temperature", [](auto& s) { s.temperature = kNan; }},
      {"temperature", [](auto& s) { s.temperature = kInfinity; }},
      {"temperature", [](auto& s) { s.temperature = -0.5; }},
      {"temperature", [](auto& s) { s.temperature = 1e30; }},
      {"top_p", [](auto& s) { s.top_p = kNan; }},
      {"top_p", [](auto& s) { s.top_p = 0; }},
      {"top_p", [](auto& s) { s.top_p = -1; }},
      {"top_p", [](auto& s) { s.top_p = 1.0001; }},
      {"top_p", [](auto& s) { s.top_p = kInfinity; }},
      {"top_k", [](auto& s) { s.top_k = -1; }},
      {"top_k", [](auto& s) { s.top_k = std::numeric_limits<int>::max(); }},
      {"repetition_penalty", [](auto& s) { s.repetition_penalty = kNan; }},
      {"repetition_penalty", [](auto& s) { s.repetition_penalty = 0; }},
      {"repetition_penalty", [](auto& s) { s.repetition_penalty = -1.05; }},
      {"repetition_penalty", [](auto& s) { s.repetition_penalty = 1e9; }},
      {"repetition_penalty", [](auto& s) { s.repetition_penalty = 1e-9; }},
      {"max_new_tokens", [](auto& s) { s.max_new_tokens = 0; }},
      {"max_new_tokens", [](auto& s) { s.max_new_tokens = -7; }},
      {"min_new_tokens", [](auto& s) { s.min_new_tokens = -1; }},
      {"min_new_tokens", [](auto& s) { s.min_new_tokens = 2; }},
      {"stop_ids", [](auto& s) { s.stop_ids = {504}; }},
      {"stop_ids", [](auto& s) { s.stop_ids = {-1}; }},
  };
  for (const auto& [field, spoil] : cases) {
    SamplingSettings settings;
    spoil(settings);
    const absl::Status status = Validate(settings, 504);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << field << ": " << status;
    EXPECT_THAT(std::string(status.message()), StartsWith(field));
  }
}

TEST(SamplingSettingsTest, TemperatureZeroIsAskedToBeGreedy) {
  SamplingSettings settings;
  settings.temperature = 0;
  EXPECT_THAT(std::string(Validate(settings, 504).message()), HasSubstr("greedy"));
  settings.greedy = true;
  EXPECT_TRUE(Validate(settings, 504).ok());
}

}  // namespace
}  // namespace minicpmv
