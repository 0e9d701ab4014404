#include "services/common/test_points.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

constexpr char kVariable[] = "MINICPMV_TEST_POINTS";
constexpr int kMostDelay = 60000;  // milliseconds
constexpr absl::Duration kLongestHold = absl::Minutes(1), kGlance = absl::Milliseconds(1);

absl::StatusOr<PointAction> ParseAction(absl::string_view entry) {
  const auto error = [&] {
    return absl::InvalidArgumentError(absl::StrCat(
        Quoted(entry),
        " is not POINT=kill:FILE, POINT=stop:FILE, POINT=hold:FILE or POINT=delay:MILLISECONDS"));
  };
  const std::pair<absl::string_view, absl::string_view> named =
      absl::StrSplit(entry, absl::MaxSplits('=', 1));
  const std::pair<absl::string_view, absl::string_view> asked =
      absl::StrSplit(named.second, absl::MaxSplits(':', 1));
  if (named.first.empty() || asked.second.empty()) return error();
  PointAction action;
  action.point = std::string(named.first);
  if (asked.first == "delay") {
    int milliseconds = 0;
    if (!absl::SimpleAtoi(asked.second, &milliseconds) || milliseconds < 0 ||
        milliseconds > kMostDelay) {
      return error();
    }
    action.kind = PointAction::Kind::kDelay;
    action.delay = absl::Milliseconds(milliseconds);
    return action;
  }
  if (asked.first == "kill") {
    action.kind = PointAction::Kind::kKill;
  } else if (asked.first == "stop") {
    action.kind = PointAction::Kind::kStop;
  } else if (asked.first == "hold") {
    action.kind = PointAction::Kind::kHold;
  } else {
    return error();
  }
  action.file = std::string(asked.second);
  return action;
}

const std::vector<PointAction>& Asked() {
  static const std::vector<PointAction>& actions = *[] {
    auto* const asked = new std::vector<PointAction>;
    const char* const text = std::getenv(kVariable);
    if (text == nullptr) return asked;
    absl::StatusOr<std::vector<PointAction>> parsed = ParsePointActions(text);
    if (parsed.ok()) {
      *asked = *std::move(parsed);
      LogWarning(
          absl::StrCat(kVariable, " is set: this process will stop or delay itself for a test"));
    } else {
      LogError(absl::StrCat(kVariable, ": ", parsed.status().message()));
    }
    return asked;
  }();
  return actions;
}

void StopOnce(const PointAction& action, absl::string_view request_id) {
  // O_EXCL: one process or thread only, also among those that were started again.
  const int file = open(action.file.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
  if (file < 0) return;
  // One write: who waits for the file reads the whole line or none of it.
  const std::string line = absl::StrCat(action.point, " ", getpid(), " ", request_id, "\n");
  const ssize_t written = write(file, line.data(), line.size());
  close(file);
  if (written < 0) LogError(absl::StrCat("cannot write ", action.file));
  kill(getpid(), action.kind == PointAction::Kind::kKill ? SIGKILL : SIGSTOP);
}

void HoldOnce(const PointAction& action) {
  const std::string held = absl::StrCat(action.file, ".held");
  if (rename(action.file.c_str(), held.c_str()) != 0) return;
  const absl::Time end = absl::Now() + kLongestHold;
  while (access(held.c_str(), F_OK) == 0 && absl::Now() < end) absl::SleepFor(kGlance);
}

}  // namespace

absl::StatusOr<std::vector<PointAction>> ParsePointActions(absl::string_view text) {
  std::vector<PointAction> actions;
  for (const absl::string_view entry : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    ASSIGN_OR_RETURN(actions.emplace_back(), ParseAction(entry));
  }
  return actions;
}

void TestPoint(absl::string_view point, absl::string_view request_id) {
  for (const PointAction& action : Asked()) {
    if (action.point != point) continue;
    switch (action.kind) {
      case PointAction::Kind::kDelay:
        absl::SleepFor(action.delay);
        break;
      case PointAction::Kind::kHold:
        HoldOnce(action);
        break;
      case PointAction::Kind::kKill:
      case PointAction::Kind::kStop:
        StopOnce(action, request_id);
        break;
    }
  }
}

}  // namespace minicpmv
