#include "tools/minicpmv/cluster.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/base/blame.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/json_text.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "runtime/device/device_list.h"
#include "services/common/listen_address.h"
#include "tools/minicpmv/child_process.h"
#include "tools/minicpmv/output.h"
#include "tools/minicpmv/restart_policy.h"

namespace minicpmv {
namespace {

constexpr char kGatewayRole[] = "gateway";
constexpr absl::Duration kTellEvery = absl::Seconds(5);

absl::Time Now() { return Clock::Monotonic().Now(); }

// What a process says on standard output when it is ready.
struct Readiness {
  std::string role, address, admin_address;

  static std::optional<Readiness> Parse(absl::string_view line) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    if (words.size() < 4 || words[0] != "ready") return std::nullopt;
    absl::string_view admin = words[3];
    if (!absl::ConsumePrefix(&admin, "admin=")) return std::nullopt;
    return Readiness{std::string(words[1]), std::string(words[2]), std::string(admin)};
  }
};

bool IsAdminListen(absl::string_view flag) { return absl::StartsWith(flag, "--admin-listen="); }

// A member and the process that plays it, if there is one just now.
struct Player {
  ClusterMember member;
  RestartPolicy policy;
  std::unique_ptr<ChildProcess> process;
  std::optional<Readiness> readiness;  // of the process
  absl::Time start_at = absl::InfiniteFuture();
  std::string last_words;  // the last line on standard error
  int starts = 0;
};

// The file for spans of the player's next start: who died should not lose what it has written.
std::string TraceFileOf(const std::string& all, const Player& player) {
  std::string name = player.member.name;
  if (player.starts > 0) absl::StrAppend(&name, ".", player.starts);
  std::filesystem::path path(all);
  const std::string extension = path.extension().string();
  path.replace_extension();
  return absl::StrCat(path.string(), ".", name, extension);
}

class Supervisor {
 public:
  Supervisor(const ClusterOptions& options, std::string executable, int stop_fd,
             absl::FunctionRef<absl::Status(absl::string_view)> output,
             absl::FunctionRef<void(absl::string_view)> log)
      : options_(options),
        executable_(std::move(executable)),
        stop_fd_(stop_fd),
        output_(output),
        log_(log) {
    for (ClusterMember& member : PlanCluster(options)) {
      name_width_ = std::max(name_width_, member.name.size());
      players_.emplace_back().member = std::move(member);
    }
  }

  absl::Status Run() {
    const absl::Status status = RunAll();
    if (!status.ok()) Log(absl::StrCat("stops: ", status.message()));
    StopAll();
    return status;
  }

 private:
  Player& router() { return players_.front(); }

  absl::Status RunAll() {
    RETURN_IF_ERROR(Start(router()));
    RETURN_IF_ERROR(AwaitReady());
    if (is_stopped_) return absl::OkStatus();
    Settle(router());
    const std::string at = router().readiness->address;
    for (size_t i = 1; i < players_.size(); ++i) {
      players_[i].member.flags.push_back(absl::StrCat("--router=", DialableOf(at)));
      RETURN_IF_ERROR(Start(players_[i]));
    }
    RETURN_IF_ERROR(AwaitReady());
    if (is_stopped_) return absl::OkStatus();
    if (players_.back().member.role == kGatewayRole) Settle(players_.back());
    RETURN_IF_ERROR(output_(absl::StrCat("ready cluster ", at, "\n")));
    all_were_ready_ = true;
    while (!is_stopped_) RETURN_IF_ERROR(Step(absl::InfiniteFuture()));
    return absl::OkStatus();
  }

  // It comes back where the workers, and clients, look for it.
  static void Settle(Player& player) {
    std::vector<std::string>& flags = player.member.flags;
    std::erase_if(flags, [](const std::string& flag) {
      return absl::StartsWith(flag, "--listen=") || IsAdminListen(flag);
    });
    flags.push_back(absl::StrCat("--listen=", player.readiness->address));
    flags.push_back(absl::StrCat("--admin-listen=", player.readiness->admin_address));
  }

  absl::Status Start(Player& player) {
    player.start_at = absl::InfiniteFuture();
    player.readiness.reset();
    player.last_words.clear();
    std::vector<std::string> words = {player.member.role};
    words.insert(words.end(), player.member.flags.begin(), player.member.flags.end());
    if (!options_.trace.empty()) {
      words.push_back(absl::StrCat("--trace=", TraceFileOf(options_.trace, player)));
    }
    ++player.starts;
    absl::StatusOr<std::unique_ptr<ChildProcess>> started = ChildProcess::Start(executable_, words);
    if (started.ok()) {
      player.process = *std::move(started);
      Log(absl::StrCat("starts ", player.member.name, ", pid ", player.process->pid()));
      return absl::OkStatus();
    }
    if (!all_were_ready_) return Blame(player.member.name, started.status());
    StartLater(player, started.status().message());
    return absl::OkStatus();
  }

  void StartLater(Player& player, absl::string_view why) {
    const absl::Duration delay = player.policy.Ended(Now());
    player.start_at = Now() + delay;
    Log(absl::StrCat(player.member.name, " ended: ", why, "; it starts again in ",
                     absl::FormatDuration(delay)));
  }

  // Until all that were started are ready, or it is time to stop.
  absl::Status AwaitReady() {
    const absl::Time begin = Now();
    absl::Time tell_at = begin + kTellEvery;
    while (!is_stopped_) {
      std::vector<absl::string_view> missing;
      for (const Player& player : players_) {
        if (player.process != nullptr && !player.readiness.has_value()) {
          missing.push_back(player.member.name);
        }
      }
      if (missing.empty()) break;
      if (Now() >= tell_at) {
        Log(absl::StrFormat("waits for %s after %.0f s", absl::StrJoin(missing, ", "),
                            absl::ToDoubleSeconds(Now() - begin)));
        tell_at += kTellEvery;
      }
      RETURN_IF_ERROR(Step(tell_at));
    }
    return absl::OkStatus();
  }

  // Sleeps until something happens, at most until then, and deals with it.
  absl::Status Step(absl::Time until) {
    std::vector<pollfd> fds = {{stop_fd_, POLLIN, 0}};
    for (const Player& player : players_) {
      until = std::min(until, player.start_at);
      if (player.process == nullptr) continue;
      fds.push_back({player.process->end_fd(), POLLIN, 0});
      for (const auto output : {ChildProcess::kOutput, ChildProcess::kError}) {
        fds.push_back({player.process->fd(output), POLLIN, 0});  // -1 is passed over
      }
    }
    const double wait_ms = std::ceil(absl::ToDoubleMilliseconds(until - Now()));
    const int timeout = wait_ms > 1e6 ? 1'000'000 : static_cast<int>(std::max(0.0, wait_ms));
    if (poll(fds.data(), fds.size(), timeout) < 0 && errno != EINTR) {
      return absl::InternalError(absl::StrCat("poll: ", std::strerror(errno)));
    }
    if (fds[0].revents != 0) {
      is_stopped_ = true;
      signalfd_siginfo taken;  // so that another wish to stop can be told from this one
      if (read(stop_fd_, &taken, sizeof(taken)) < 0 && errno != EAGAIN && errno != EINTR) {
        return absl::InternalError(absl::StrCat("reading what stops us: ", std::strerror(errno)));
      }
    }

    size_t next = 1;
    for (Player& player : players_) {
      if (player.process == nullptr) {
        if (!is_stopping_ && Now() >= player.start_at) RETURN_IF_ERROR(Start(player));
        continue;
      }
      const bool has_ended = fds[next].revents != 0;
      next += 3;
      RETURN_IF_ERROR(Listen(player));
      if (has_ended) RETURN_IF_ERROR(End(player));
    }
    return absl::OkStatus();
  }

  absl::Status Listen(Player& player) {
    for (const std::string& line : player.process->ReadLines(ChildProcess::kOutput)) {
      Log(line, player.member.name);
      std::optional<Readiness> readiness = Readiness::Parse(line);
      if (!readiness.has_value() || player.readiness.has_value()) continue;
      player.readiness = std::move(readiness);
      player.policy.Ready(Now());
      const absl::Status told =
          output_(absl::StrCat("ready ", player.readiness->role, " ", player.readiness->address,
                               " admin=", player.readiness->admin_address,
                               " name=", player.member.name, " pid=", player.process->pid(), "\n"));
      // Later nobody need listen any more.
      if (!all_were_ready_ && !is_stopping_) RETURN_IF_ERROR(told);
    }
    for (const std::string& line : player.process->ReadLines(ChildProcess::kError)) {
      Log(line, player.member.name);
      player.last_words = line;
    }
    return absl::OkStatus();
  }

  absl::Status End(Player& player) {
    std::string how = player.process->Reap();
    const int exit_status = player.process->exit_status();
    player.process.reset();
    if (is_stopping_) {
      Log(absl::StrCat(player.member.name, " ended: ", how));
    } else if (all_were_ready_) {
      StartLater(player, how);
    } else {
      if (!player.last_words.empty()) absl::StrAppend(&how, ": ", player.last_words);
      const std::string words = absl::StrCat(player.member.name, " could not start: ", how);
      return exit_status == 2 ? absl::InvalidArgumentError(words) : absl::UnavailableError(words);
    }
    return absl::OkStatus();
  }

  void StopAll() {
    is_stopping_ = true;
    const absl::Time begin = Now();
    is_stopped_ = false;  // from here on another wish to stop means at once
    // Those who bring requests first: what is asked through the gateway the router answers.
    for (Player* const player : {&players_.back(), &router()}) {
      if (player->member.role != kGatewayRole && player != &router()) continue;
      Tell(*player);
      AwaitEnd(begin + options_.patience, [&] { return player->process == nullptr; });
    }
    for (Player& player : players_) Tell(player);
    AwaitEnd(
        std::max(begin + options_.patience, Now() + std::min(options_.patience, absl::Seconds(5))),
        [&] {
          return std::all_of(players_.begin(), players_.end(),
                             [](const Player& player) { return player.process == nullptr; });
        });
    for (Player& player : players_) {
      if (player.process == nullptr) continue;
      Log(absl::StrCat(player.member.name, " does not end and is killed"));
      player.process.reset();
    }
  }

  // To end.
  void Tell(Player& player) {
    if (player.process != nullptr) player.process->Signal(SIGTERM);
  }

  void AwaitEnd(absl::Time deadline, absl::FunctionRef<bool()> is_over) {
    while (!is_over() && !is_stopped_ && Now() < deadline) {
      if (!Step(deadline).ok()) return;
    }
  }

  void Log(absl::string_view line, absl::string_view name = "cluster") {
    if (IsLogJson()) return LogAsJson(line, name);
    log_(absl::StrCat(name, std::string(name_width_ - std::min(name_width_, name.size()), ' '),
                      " | ", line, "\n"));
  }

  void LogAsJson(absl::string_view line, absl::string_view name) {
    if (absl::StartsWith(line, "{")) {
      log_(absl::StrCat("{\"name\": ", JsonText(name), ", ", line.substr(1), "\n"));
    } else {
      LogInfo(name == "cluster" ? std::string(line) : absl::StrCat(name, ": ", line));
    }
  }

  const ClusterOptions& options_;
  const std::string executable_;
  const int stop_fd_;
  const absl::FunctionRef<absl::Status(absl::string_view)> output_;
  const absl::FunctionRef<void(absl::string_view)> log_;

  size_t name_width_ = sizeof("cluster") - 1;
  std::vector<Player> players_;  // the router first
  bool all_were_ready_ = false, is_stopped_ = false, is_stopping_ = false;
};

}  // namespace

absl::Status CheckSettings(const ClusterOptions& options) {
  return CheckSettings(options.settings);
}

std::vector<ClusterMember> PlanCluster(const ClusterOptions& options) {
  // All addresses are said, whatever the environment or a file would say to a child.
  const auto member = [&](const std::string& name, const std::string& role,
                          const std::string& listen) {
    ClusterMember made = {name, role, {}};
    if (const auto flags = options.flags.find(role); flags != options.flags.end()) {
      made.flags = flags->second;
    }
    made.flags.push_back(absl::StrCat("--listen=", listen));
    if (std::none_of(made.flags.begin(), made.flags.end(), IsAdminListen)) {
      made.flags.push_back("--admin-listen=127.0.0.1:0");
    }
    return made;
  };
  const auto names_devices = [](const ClusterMember& made) {
    return std::any_of(made.flags.begin(), made.flags.end(), [](const std::string& flag) {
      return absl::StartsWith(flag, "--devices=");
    });
  };
  std::vector<ClusterMember> members = {member("router", "router", options.listen)};
  const std::pair<const char*, int> roles[] = {
      {"vision", options.vision}, {"prefill", options.prefill}, {"decode", options.decode}};
  int workers = 0;
  for (const auto& [role, count] : roles) workers += count;
  CHECK_GT(workers, 0);
  const int threads = options.threads > 0 ? options.threads : AvailableCores();
  for (const auto& [role, count] : roles) {
    for (int i = 0; i < count; ++i) {
      const int index = static_cast<int>(members.size()) - 1;
      const int share = threads / workers + (index < threads % workers ? 1 : 0);
      members.push_back(member(absl::StrCat(role, "-", i), role, "127.0.0.1:0"));
      std::vector<std::string>& flags = members.back().flags;
      // Who comes back under its old name finds the media that it is the home of.
      flags.push_back(absl::StrCat("--id=", members.back().name));
      if (!names_devices(members.back())) {
        flags.push_back(absl::StrCat("--threads=", std::max(1, share)));
      }
    }
  }
  if (!options.http.empty()) members.push_back(member(kGatewayRole, kGatewayRole, options.http));
  return members;
}

absl::Status RunCluster(const ClusterOptions& options, int stop_fd,
                        absl::FunctionRef<absl::Status(absl::string_view)> output,
                        absl::FunctionRef<void(absl::string_view)> log) {
  std::string executable = options.executable;
  if (executable.empty()) {
    std::error_code error;
    executable = std::filesystem::read_symlink("/proc/self/exe", error).string();
    if (error) return absl::InternalError(absl::StrCat("/proc/self/exe: ", error.message()));
  }
  return Supervisor(options, std::move(executable), stop_fd, output, log).Run();
}

absl::Status Cluster(const ClusterOptions& options) {
  // A file with flags is the cluster's; what it says for others is handed on.
  unsetenv("MINICPMV_CONFIG");
  if (options.json_log) LogJson("cluster");
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const int stop_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (stop_fd < 0) return absl::InternalError(absl::StrCat("signalfd: ", std::strerror(errno)));
  const auto closing = absl::MakeCleanup([=] { close(stop_fd); });
  return RunCluster(options, stop_fd, WriteOutput, WriteNotice);
}

}  // namespace minicpmv
