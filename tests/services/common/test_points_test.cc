#include "services/common/test_points.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/services/common/eventually.h"

namespace minicpmv {
namespace {

class TestPointsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/test_points_XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    unlink(file().c_str());
    rmdir(folder_.c_str());
  }
  std::string file() const { return folder_ + "/reached"; }
  std::string Reached() const {
    std::stringstream text;
    text << std::ifstream(file()).rdbuf();
    return text.str();
  }
  // A process of its own that meets two points; it ends with 7 when it has passed both.
  pid_t Start(const std::string& points) const {
    const pid_t child = fork();
    if (child != 0) return child;
    setenv("MINICPMV_TEST_POINTS", points.c_str(), 1);
    TestPoint("vision.opened", "request-1");
    TestPoint("vision.rows_half_landed", "request-1");
    _exit(7);
  }

  std::string folder_;
};

TEST_F(TestPointsTest, PassesWhereNothingIsAsked) {
  int status = 0;
  const pid_t child = Start("");
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(TestPointsTest, EndsTheProcessAtThePointThatIsNamedAndOnlyOnce) {
  const std::string points = absl::StrCat("vision.rows_half_landed=kill:", file());
  int status = 0;
  const pid_t child = Start(points);
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_EQ(Reached(), absl::StrCat("vision.rows_half_landed ", child, " request-1\n"));

  // Started again with the same environment.
  const pid_t next = Start(points);
  ASSERT_EQ(waitpid(next, &status, 0), next);
  EXPECT_TRUE(WIFEXITED(status));
}

TEST_F(TestPointsTest, FreezesTheProcessUntilItIsToldToGoOn) {
  const pid_t child = Start(absl::StrCat("vision.opened=stop:", file()));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  EXPECT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(Reached(), absl::StrCat("vision.opened ", child, " request-1\n"));
  kill(child, SIGCONT);
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(TestPointsTest, HoldsAThreadThatTheTestWaitsForUntilItLetsItGo) {
  std::ofstream(file()).close();
  const std::string held = file() + ".held";
  const pid_t child = Start(absl::StrCat("vision.opened=hold:", file()));
  ASSERT_TRUE(Eventually([&] { return access(held.c_str(), F_OK) == 0; }));
  EXPECT_NE(access(file().c_str(), F_OK), 0);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, WNOHANG), 0);
  unlink(held.c_str());
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(TestPointsTest, HoldsNobodyUnasked) {
  const pid_t child = Start(absl::StrCat("vision.opened=hold:", file()));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(ParsePointActionsTest, ReadsEveryKind) {
  const auto actions = ParsePointActions("a.b=kill:/x,c.d=stop:/y=z:,g.h=hold:/w,e.f=delay:300");
  ASSERT_TRUE(actions.ok()) << actions.status();
  ASSERT_EQ(actions->size(), 4u);
  EXPECT_EQ((*actions)[1].file, "/y=z:");
  EXPECT_EQ((*actions)[2].file, "/w");
  EXPECT_EQ((*actions)[3].delay, absl::Milliseconds(300));
}

TEST(ParsePointActionsTest, RefusesWhatIsNoAction) {
  for (const char* text : {"a", "a=kill", "=kill:/x", "a=kill:", "a=wait:/x", "a=delay:x",
                           "a=delay:-1", "a=delay:60001"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParsePointActions(text).status())) << text;
  }
}

}  // namespace
}  // namespace minicpmv
