#include "runtime/base/blame.h"
#include "tools/minicpmv/errors.h"

#include "gtest/gtest.h"

namespace minicpmv {
namespace {

TEST(ErrorsTest, TellsWhatTheCallerCanMendFromTheRest) {
  EXPECT_EQ(ExitStatusOf(absl::OkStatus()), 0);
  for (const absl::Status& status :
       {absl::InvalidArgumentError(""), absl::NotFoundError(""), absl::OutOfRangeError(""),
        absl::DataLossError(""), absl::UnimplementedError(""), absl::FailedPreconditionError("")}) {
    EXPECT_EQ(ExitStatusOf(status), 2) << status;
  }
  for (const absl::Status& status :
       {absl::InternalError(""), absl::UnavailableError(""), absl::CancelledError(""),
        absl::ResourceExhaustedError(""), absl::UnknownError("")}) {
    EXPECT_EQ(ExitStatusOf(status), 1) << status;
  }
}

TEST(ErrorsTest, KeepsAnErrorOnOneLine) {
  EXPECT_EQ(ErrorLine(absl::NotFoundError("no file \"a\nb\x1b[1m\"")),
            "minicpmv: no file \"a\\x0ab\\x1b[1m\"");
  EXPECT_EQ(ErrorLine(absl::InternalError("")), "minicpmv: INTERNAL");
}

TEST(ErrorsTest, BlamesNobodyForOk) {
  EXPECT_TRUE(Blame("--flag", absl::OkStatus()).ok());
  EXPECT_EQ(Blame("--flag", absl::NotFoundError("x")), absl::NotFoundError("--flag: x"));
}

}  // namespace
}  // namespace minicpmv
