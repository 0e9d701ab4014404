#include "runtime/base/check.h"

#include <gtest/gtest.h>

#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

TEST(CheckDeathTest, PrintsTheValuesAndEndsTheProcess) {
  const int pages = 3;
  EXPECT_DEATH(CHECK_EQ(pages, 4) << "after " << 7, "CHECK failed: .*\\(3 against 4\\) after 7");
}

TEST(CheckTest, EvaluatesAConditionOnce) {
  int calls = 0;
  CHECK(++calls > 0) << "never printed " << ++calls;
  EXPECT_EQ(calls, 1);
}

TEST(StatusMacrosTest, PassOnErrorsAndMoveValues) {
  const auto half = [](int n) -> absl::StatusOr<std::unique_ptr<int>> {
    if (n % 2 != 0) return absl::InvalidArgumentError("odd");
    return std::make_unique<int>(n / 2);
  };
  const auto quarter = [&](int n) -> absl::StatusOr<int> {
    ASSIGN_OR_RETURN(const std::unique_ptr<int> first, half(n));
    ASSIGN_OR_RETURN(const std::unique_ptr<int> second, half(*first));
    RETURN_IF_ERROR(*second == 0 ? absl::OutOfRangeError("zero") : absl::OkStatus());
    return *second;
  };
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).status(), absl::InvalidArgumentError("odd"));
  EXPECT_EQ(quarter(0).status(), absl::OutOfRangeError("zero"));
}

}  // namespace
}  // namespace minicpmv
