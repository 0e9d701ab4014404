#include "tools/minicpmv/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace minicpmv {
namespace {

absl::Status WriteAll(int file, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(file, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return absl::UnavailableError(absl::StrCat("standard output: ", std::strerror(errno)));
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteOutput(absl::string_view text) { return WriteAll(STDOUT_FILENO, text); }

void WriteNotice(absl::string_view text) { WriteAll(STDERR_FILENO, text).IgnoreError(); }

}  // namespace minicpmv
