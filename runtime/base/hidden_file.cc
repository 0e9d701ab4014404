#include "runtime/base/hidden_file.h"

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace minicpmv {
namespace {

absl::Status WriteError(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(std::strerror(error));
    default:
      return absl::UnavailableError(std::strerror(error));
  }
}

}  // namespace

absl::StatusOr<HiddenFile> HiddenFile::Create(const std::string& folder) {
  HiddenFile file(open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.descriptor_ < 0) {
    // Not every file system knows files without a name.
    std::string path = absl::StrCat(folder, "/minicpmv-XXXXXX");
    file.descriptor_ = mkostemp(path.data(), O_CLOEXEC);
    if (file.descriptor_ < 0) return WriteError(errno);
    unlink(path.c_str());
  }
  return file;
}

HiddenFile::~HiddenFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status HiddenFile::Append(absl::string_view bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = pwrite(descriptor_, bytes.data() + done, bytes.size() - done,
                                 static_cast<off_t>(size_ + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return WriteError(errno);
    done += static_cast<size_t>(count);
  }
  size_ += bytes.size();
  return absl::OkStatus();
}

absl::StatusOr<std::string> HiddenFile::Read(uint64_t offset, size_t size) const {
  if (offset > size_ || size > size_ - offset) {
    return absl::DataLossError("a hidden file is asked for more than it holds");
  }
  std::string bytes(size, '\0');
  for (size_t done = 0; done < size;) {
    const ssize_t count =
        pread(descriptor_, bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return absl::DataLossError("a hidden file cannot be read back");
    done += static_cast<size_t>(count);
  }
  return bytes;
}

}  // namespace minicpmv
