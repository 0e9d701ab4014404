#include "tools/minicpmv/cluster.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace minicpmv {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// Stands for the executable: says what the roles say and does what files beside it tell it to.
constexpr char kScript[] = R"(#!/bin/sh
folder=$(dirname "$0")
role=$1
echo "$*" >> "$folder/started"
echo "$role begins" >&2
if [ -e "$folder/$role-fails" ]; then
  echo "minicpmv: --model: there is none" >&2
  exit 2
fi
trap 'echo "$role says goodbye"; exit 0' TERM
if [ -e "$folder/$role-stays" ]; then trap '' TERM; fi
if [ ! -e "$folder/$role-waits" ]; then
  echo "ready $role 127.0.0.1:1$$ admin=127.0.0.1:2$$"
fi
while :; do sleep 0.02; done
)";

bool IsAlive(pid_t pid) { return kill(pid, 0) == 0 || errno != ESRCH; }

class ClusterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = absl::StrCat(::testing::TempDir(), "/clusterXXXXXX");
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    options_.executable = absl::StrCat(name, "/minicpmv");
    std::ofstream(options_.executable) << kScript;
    std::filesystem::permissions(options_.executable, std::filesystem::perms::owner_all);
    options_.listen = "127.0.0.1:0";
    options_.threads = 3;
    stop_fd_ = eventfd(0, EFD_NONBLOCK);
    ASSERT_GE(stop_fd_, 0);
  }
  void TearDown() override {
    close(stop_fd_);
    std::filesystem::remove_all(folder_);
    for (const pid_t pid : pids_) EXPECT_FALSE(IsAlive(pid)) << pid << " is left over";
  }

  void Touch(const std::string& file) { std::ofstream(folder_ / file) << ""; }
  void Stop() { ASSERT_EQ(eventfd_write(stop_fd_, 1), 0); }

  // Runs it, telling each line of output and log to the functions.
  absl::Status Run(const std::function<void(const std::string&)>& on_output,
                   const std::function<void(const std::string&)>& on_log = {}) {
    return RunCluster(
        options_, stop_fd_,
        [&](absl::string_view text) {
          output_.push_back(std::string(text));
          for (const absl::string_view word : absl::StrSplit(text, ' ')) {
            pid_t pid;
            if (absl::StartsWith(word, "pid=") &&
                absl::SimpleAtoi(absl::StripAsciiWhitespace(word.substr(4)), &pid)) {
              pids_.push_back(pid);
            }
          }
          if (on_output) on_output(output_.back());
          return absl::OkStatus();
        },
        [&](absl::string_view text) {
          log_.push_back(std::string(text));
          if (on_log) on_log(log_.back());
        });
  }

  // Of the first process of that name.
  pid_t PidOf(const std::string& name) const {
    for (size_t i = 0; i < output_.size(); ++i) {
      if (absl::StrContains(output_[i], absl::StrCat(" name=", name, " "))) return pids_[i];
    }
    ADD_FAILURE() << name << " was never ready";
    return pids_.front();
  }

  // What each process was started with.
  std::vector<std::string> Started() const {
    std::ifstream file(folder_ / "started");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

  std::filesystem::path folder_;
  ClusterOptions options_;
  int stop_fd_ = -1;
  std::vector<std::string> output_, log_;
  std::vector<pid_t> pids_;
};

TEST_F(ClusterTest, StartsTheRouterAndThenTheWorkersThatItsAddressIsToldTo) {
  options_.flags["router"] = {"--settle=3s"};
  for (const char* const role : {"vision", "prefill", "decode"}) {
    options_.flags[role] = {"--chunk=16"};
  }
  EXPECT_TRUE(Run([&](const std::string& line) {
                if (absl::StartsWith(line, "ready cluster ")) Stop();
              }).ok());
  ASSERT_EQ(output_.size(), 5u);
  EXPECT_THAT(output_[0],
              AllOf(StartsWith("ready router 127.0.0.1:1"), HasSubstr(" admin=127.0.0.1:2"),
                    HasSubstr(" name=router pid="), EndsWith("\n")));
  const std::vector<std::string> words = absl::StrSplit(output_[0], ' ');
  EXPECT_EQ(output_[4], absl::StrCat("ready cluster ", words[2], "\n"));
  const std::vector<std::string> started = Started();
  ASSERT_EQ(started.size(), 4u);
  EXPECT_EQ(started[0], "router --settle=3s --listen=127.0.0.1:0 --admin-listen=127.0.0.1:0");
  for (const std::string role : {"vision", "prefill", "decode"}) {
    EXPECT_THAT(started, Contains(AllOf(StartsWith(absl::StrCat(role, " ")),
                                        HasSubstr("--chunk=16"), HasSubstr("--threads=1"),
                                        HasSubstr(absl::StrCat("--router=", words[2])))));
  }
  EXPECT_THAT(log_, Contains("vision-0  | vision begins\n"));
  // Running replies need the workers until the router has ended.
  std::vector<std::string> goodbyes;
  for (const std::string& line : log_) {
    if (absl::StrContains(line, "goodbye")) goodbyes.push_back(line);
  }
  ASSERT_EQ(goodbyes.size(), 4u);
  EXPECT_THAT(goodbyes[0], StartsWith("router"));
}

TEST_F(ClusterTest, SharesTheThreadsOut) {
  options_.vision = 2;
  options_.prefill = 1;
  options_.decode = 2;
  const auto threads = [&](int all) {
    options_.threads = all;
    std::vector<std::string> shares;
    for (const ClusterMember& member : PlanCluster(options_)) {
      for (const std::string& flag : member.flags) {
        if (absl::StartsWith(flag, "--threads=")) shares.push_back(flag.substr(10));
      }
    }
    return shares;
  };
  EXPECT_THAT(threads(7), ElementsAre("2", "2", "1", "1", "1"));
  EXPECT_THAT(threads(2), ElementsAre("1", "1", "1", "1", "1"));
  EXPECT_EQ(PlanCluster(options_)[4].name, "decode-0");
  options_.flags["prefill"] = {"--devices=cpu,cpu"};
  EXPECT_THAT(threads(5), ElementsAre("1", "1", "1", "1"));
}

TEST_F(ClusterTest, StartsAgainWhatDied) {
  int visions = 0;
  EXPECT_TRUE(Run([&](const std::string& line) {
                if (absl::StartsWith(line, "ready vision ")) {
                  if (++visions == 2) Stop();
                }
                if (absl::StartsWith(line, "ready cluster ")) kill(PidOf("vision-0"), SIGKILL);
              }).ok());
  EXPECT_EQ(visions, 2);
  EXPECT_EQ(Started().size(), 5u);
  EXPECT_THAT(log_, Contains(HasSubstr(" ended: signal 9; it starts again in 500ms")));
}

TEST_F(ClusterTest, StartsTheRouterAgainWhereItWas) {
  int routers = 0;
  EXPECT_TRUE(Run([&](const std::string& line) {
                if (absl::StartsWith(line, "ready router ") && ++routers == 2) Stop();
                if (absl::StartsWith(line, "ready cluster ")) kill(PidOf("router"), SIGKILL);
              }).ok());
  const std::vector<std::string> words = absl::StrSplit(output_[0], ' ');
  EXPECT_EQ(Started().back(), absl::StrCat("router --listen=", words[2], " --admin-",
                                           "listen=", words[3].substr(sizeof("admin=") - 1)));
}

TEST_F(ClusterTest, HasAGatewayThatStopsBeforeTheRouterDoes) {
  options_.http = "127.0.0.1:0";
  options_.flags["gateway"] = {"--max-requests=7"};
  EXPECT_TRUE(Run([&](const std::string& line) {
                if (absl::StartsWith(line, "ready cluster ")) Stop();
              }).ok());
  const std::vector<std::string> words = absl::StrSplit(output_[0], ' ');
  EXPECT_THAT(Started(), Contains(AllOf(StartsWith("gateway --max-requests=7 --listen=127.0.0.1:0"),
                                        HasSubstr(absl::StrCat("--router=", words[2])))));
  std::vector<std::string> goodbyes;
  for (const std::string& line : log_) {
    if (absl::StrContains(line, "goodbye")) goodbyes.push_back(line);
  }
  ASSERT_EQ(goodbyes.size(), 5u);
  EXPECT_THAT(goodbyes[0], StartsWith("gateway"));
  EXPECT_THAT(goodbyes[1], StartsWith("router"));
}

TEST_F(ClusterTest, StopsAllWhereOneCannotStart) {
  Touch("decode-fails");
  const absl::Status status = Run({});
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("decode-0 could not start: exit status 2"),
                    HasSubstr("--model: there is none")));
}

TEST_F(ClusterTest, NamesAProgramThatDoesNotExist) {
  options_.executable = "/absent/minicpmv";
  const absl::Status status = Run({});
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("/absent/minicpmv"));
}

TEST_F(ClusterTest, StopsWhileItWaitsForOneThatIsNotReady) {
  Touch("prefill-waits");
  EXPECT_TRUE(Run([&](const std::string& line) {
                if (absl::StartsWith(line, "ready decode ")) Stop();
              }).ok());
  for (const std::string& line : output_) EXPECT_FALSE(absl::StrContains(line, "cluster"));
}

TEST_F(ClusterTest, KillsWhatDoesNotEnd) {
  Touch("router-stays");
  options_.patience = absl::Milliseconds(300);
  EXPECT_TRUE(Run([&](const std::string& line) {
                if (absl::StartsWith(line, "ready cluster ")) Stop();
              }).ok());
  EXPECT_THAT(log_, Contains(HasSubstr("router does not end and is killed")));
}

TEST_F(ClusterTest, KillsAtOnceWhenToldTwice) {
  Touch("vision-stays");
  EXPECT_TRUE(Run(
                  [&](const std::string& line) {
                    if (absl::StartsWith(line, "ready cluster ")) Stop();
                  },
                  [&](const std::string& line) {
                    if (absl::StrContains(line, "router ended")) Stop();
                  })
                  .ok());
  EXPECT_THAT(log_, Contains(HasSubstr("vision-0 does not end and is killed")));
}

}  // namespace
}  // namespace minicpmv
