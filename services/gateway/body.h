#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/hidden_file.h"
#include "services/gateway/allowance.h"

namespace minicpmv::gateway {

// Where the bytes of requests are kept.
struct BodyRoom {
  Allowance& memory;
  Allowance& disk;     // of none: bodies stay in memory
  std::string folder;  // of the files
  int64_t in_memory;   // of one body; one that is larger goes to the disk
};

// Bytes in memory that are counted, as long as this is held.
struct CountedBytes {
  std::string bytes;
  Allowance::Share share;
};

// The bytes of one request: in memory, and once there are many in an unlinked file. One thread at a
// time appends; then any may read.
class Body {
 public:
  // The room outlives it.
  explicit Body(const BodyRoom& room) : room_(room), memory_(room.memory), disk_(room.disk) {}
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;

  int64_t size() const { return size_; }

  // Whether so many more bytes would stay in memory: Append does not touch the disk then.
  bool StaysInMemory(size_t bytes) const;
  // UNAVAILABLE: others hold what room there is. RESOURCE_EXHAUSTED: the disk takes no
  // more. The body is worth nothing any more then.
  absl::Status Append(absl::string_view bytes);

  // Copies them into memory. UNAVAILABLE: others hold what room there is. DATA_LOSS: the file
  // cannot be read back, or there are not so many.
  absl::StatusOr<CountedBytes> Read(int64_t offset, int64_t size) const;
  // Uncounted: for a few.
  absl::StatusOr<std::string> ReadSome(int64_t offset, int64_t size) const;
  // All of them, which are not here any more.
  absl::StatusOr<CountedBytes> Take() &&;

 private:
  absl::Status AppendToFile(absl::string_view bytes);

  const BodyRoom& room_;
  Allowance::Share memory_, disk_;
  std::string bytes_;
  std::optional<HiddenFile> file_;
  int64_t size_ = 0;
};

}  // namespace minicpmv::gateway
