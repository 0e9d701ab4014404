#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace minicpmv {

// A whole file, mapped for reading. The bytes live as long as this object; pages are read from the
// disk when touched and shared between processes. Immutable, so any thread may read. A file that
// another program cuts while it is mapped ends the process (SIGBUS): checkpoints are replaced,
// never rewritten in place.
class MappedFile {
 public:
  // NOT_FOUND: no such file. INVALID_ARGUMENT: not a regular file. An empty file is an empty span.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  absl::Span<const uint8_t> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(std::string path, const uint8_t* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// A whole file as a string: for small ones. OUT_OF_RANGE when it is larger than `limit` bytes;
// otherwise as Open.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit);

}  // namespace minicpmv
