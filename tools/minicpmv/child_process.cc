#include "tools/minicpmv/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/quoted.h"

extern "C" {  // glibc 2.36 forgets to say so itself
#include <sys/pidfd.h>
}

namespace minicpmv {
namespace {

// A longer line comes in pieces.
constexpr size_t kLongestLine = 1 << 16;

absl::Status ErrnoError(absl::string_view what, int error) {
  return absl::InternalError(absl::StrCat(what, ": ", std::strerror(error)));
}

class PipePair {
 public:
  ~PipePair() {
    if (reader >= 0) close(reader);
    if (writer >= 0) close(writer);
  }
  bool Open() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    reader = ends[0];
    writer = ends[1];
    return true;
  }
  int reader = -1, writer = -1;
};

// In the child, where only what is safe between fork and exec may be called. Returns what failed.
int Become(const char* executable, char* const* arguments, pid_t parent, int nothing, int output,
           int error) {
  setpgid(0, 0);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return errno;
  if (getppid() != parent) return ESRCH;  // it ended before it could take us along
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::signal(SIGPIPE, SIG_DFL);
  if (dup2(nothing, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
      dup2(error, STDERR_FILENO) < 0) {
    return errno;
  }
  execv(executable, arguments);
  return errno;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::string& executable, const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {executable};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  PipePair output, error, failure;
  if (!output.Open() || !error.Open() || !failure.Open()) return ErrnoError("pipe", errno);
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (nothing < 0) return ErrnoError("/dev/null", errno);

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    const int failed =
        Become(executable.c_str(), argv.data(), parent, nothing, output.writer, error.writer);
    if (write(failure.writer, &failed, sizeof(failed)) < 0) _exit(126);
    _exit(127);
  }
  const int fork_error = errno;
  close(nothing);
  if (pid < 0) return ErrnoError("fork", fork_error);

  close(std::exchange(failure.writer, -1));
  int failed = 0;
  ssize_t got;
  do {
    got = read(failure.reader, &failed, sizeof(failed));
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    waitpid(pid, nullptr, 0);
    const std::string words_of_it =
        absl::StrCat(Quoted(executable), " cannot be started: ", std::strerror(failed));
    return failed == ENOENT ? absl::NotFoundError(words_of_it) : absl::InternalError(words_of_it);
  }
  std::unique_ptr<ChildProcess> child(new ChildProcess);
  child->pid_ = pid;
  child->end_fd_ = pidfd_open(pid, 0);
  if (child->end_fd_ < 0) return ErrnoError("pidfd_open", errno);
  fcntl(output.reader, F_SETFL, O_NONBLOCK);
  fcntl(error.reader, F_SETFL, O_NONBLOCK);
  child->pipes_[kOutput].fd = std::exchange(output.reader, -1);
  child->pipes_[kError].fd = std::exchange(error.reader, -1);
  return child;
}

ChildProcess::~ChildProcess() {
  if (!is_reaped_) {
    kill(-pid_, SIGKILL);  // whatever it started, too
    Reap();
  }
  if (end_fd_ >= 0) close(end_fd_);
  for (const Pipe& pipe : pipes_) {
    if (pipe.fd >= 0) close(pipe.fd);
  }
}

void ChildProcess::Signal(int signal) {
  if (!is_reaped_) kill(pid_, signal);
}

std::string ChildProcess::Reap() {
  CHECK(!is_reaped_);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  is_reaped_ = true;
  if (WIFSIGNALED(status)) {
    exit_status_ = 128 + WTERMSIG(status);
    return absl::StrCat("signal ", WTERMSIG(status));
  }
  exit_status_ = WEXITSTATUS(status);
  return absl::StrCat("exit status ", exit_status_);
}

std::vector<std::string> ChildProcess::ReadLines(Output output) {
  Pipe& pipe = pipes_[output];
  std::vector<std::string> lines;
  // More than a pipe holds, so that one call empties that of a child which has ended; and not for
  // ever where a child never stops talking.
  for (int i = 0; i < 32 && pipe.fd >= 0; ++i) {
    char bytes[4096];
    const ssize_t got = read(pipe.fd, bytes, sizeof(bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) break;
    if (got > 0) {
      pipe.rest.append(bytes, static_cast<size_t>(got));
    } else {
      close(std::exchange(pipe.fd, -1));
      if (!pipe.rest.empty()) pipe.rest += '\n';
    }
    size_t begin = 0;
    for (size_t end; (end = pipe.rest.find('\n', begin)) != std::string::npos; begin = end + 1) {
      lines.push_back(pipe.rest.substr(begin, end - begin));
    }
    pipe.rest.erase(0, begin);
    if (pipe.rest.size() >= kLongestLine) lines.push_back(std::exchange(pipe.rest, ""));
  }
  return lines;
}

}  // namespace minicpmv
