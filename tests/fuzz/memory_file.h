#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace minicpmv {

// A file without a disk, for what reads files by their path.
class MemoryFile {
 public:
  MemoryFile(const uint8_t* data, size_t size) : file_(memfd_create("fuzz", MFD_CLOEXEC)) {
    CHECK_GE(file_, 0);
    CHECK_EQ(write(file_, data, size), static_cast<ssize_t>(size));
  }
  ~MemoryFile() { close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return absl::StrCat("/proc/self/fd/", file_); }

 private:
  const int file_;
};

// What is wrong with a file is said on one line that names it.
inline void CheckNamesTheFile(const absl::Status& status, absl::string_view name) {
  CHECK(absl::StrContains(status.message(), name)) << status;
  CHECK(!absl::StrContains(status.message(), "\n")) << status;
}

}  // namespace minicpmv
