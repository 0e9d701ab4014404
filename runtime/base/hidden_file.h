#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// A file that is nowhere to be found, and gone with its descriptor. One thread at a time appends;
// any may read what was appended before.
class HiddenFile {
 public:
  // RESOURCE_EXHAUSTED: the disk is full, or there is no descriptor left. UNAVAILABLE: whatever
  // else keeps the folder from taking a file.
  static absl::StatusOr<HiddenFile> Create(const std::string& folder);
  HiddenFile(HiddenFile&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}
  HiddenFile& operator=(HiddenFile&&) = delete;
  ~HiddenFile();

  // All of them or none. Errors of Create.
  absl::Status Append(absl::string_view bytes);
  uint64_t size() const { return size_; }

  // DATA_LOSS: they cannot be read back, or are beyond the end.
  absl::StatusOr<std::string> Read(uint64_t offset, size_t size) const;

 private:
  explicit HiddenFile(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
  uint64_t size_ = 0;
};

}  // namespace minicpmv
