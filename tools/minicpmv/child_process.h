#pragma once

#include <sys/types.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace minicpmv {

// Another program that we started and whose output we read. It is a process group of its own, so
// that Ctrl-C in a terminal reaches us alone, and the kernel kills it when the thread that started
// it ends, however that ends. For that one thread.
class ChildProcess {
 public:
  // NOT_FOUND, INTERNAL: it could not be started.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const std::string& executable, const std::vector<std::string>& arguments);
  // Kills and reaps what still runs.
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  // Becomes readable when it has ended.
  int end_fd() const { return end_fd_; }
  void Signal(int signal);
  // Waits for its end: "exit status 3", "signal 9". Once.
  std::string Reap();
  // After Reap: as a shell has it, 0 where all went well and 128 + the signal that ended it.
  int exit_status() const { return exit_status_; }

  enum Output { kOutput, kError };
  // Becomes readable when there is something to read; -1 once all was read.
  int fd(Output output) const { return pipes_[output].fd; }
  // The lines that are complete by now, without line feeds; at its end the rest, too. Never blocks.
  std::vector<std::string> ReadLines(Output output);

 private:
  struct Pipe {
    int fd = -1;
    std::string rest;  // of a line that is not complete
  };
  ChildProcess() = default;

  pid_t pid_ = -1;
  int end_fd_ = -1;
  bool is_reaped_ = false;
  int exit_status_ = 0;
  std::array<Pipe, 2> pipes_;
};

}  // namespace minicpmv
