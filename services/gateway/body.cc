#include "services/gateway/body.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace minicpmv::gateway {
namespace {

bool Holds(int64_t bytes, int64_t offset, int64_t size) {
  return offset >= 0 && size >= 0 && offset <= bytes && size <= bytes - offset;
}

absl::Status TooShort() { return absl::DataLossError("a body is asked for more than it holds"); }

absl::Status NoRoom() { return absl::UnavailableError("there is no room for more bodies"); }

}  // namespace

bool Body::StaysInMemory(size_t bytes) const {
  if (file_.has_value()) return false;
  return room_.disk.bytes() == 0 || size_ + static_cast<int64_t>(bytes) <= room_.in_memory;
}

absl::Status Body::Append(absl::string_view bytes) {
  const auto count = static_cast<int64_t>(bytes.size());
  if (StaysInMemory(bytes.size())) {
    if (!memory_.Grow(count)) return NoRoom();
    bytes_.append(bytes.data(), bytes.size());
    size_ += count;
    return absl::OkStatus();
  }
  // What was in memory moves, too.
  if (!disk_.Grow(count + static_cast<int64_t>(bytes_.size()))) return NoRoom();
  const absl::Status written = AppendToFile(bytes);
  if (!written.ok()) return absl::ResourceExhaustedError(written.message());
  size_ += count;
  return absl::OkStatus();
}

absl::Status Body::AppendToFile(absl::string_view bytes) {
  if (!file_.has_value()) {
    ASSIGN_OR_RETURN(HiddenFile file, HiddenFile::Create(room_.folder));
    RETURN_IF_ERROR(file.Append(bytes_));
    file_.emplace(std::move(file));
    bytes_ = std::string();
    memory_.GiveBack();
  }
  return file_->Append(bytes);
}

absl::StatusOr<std::string> Body::ReadSome(int64_t offset, int64_t size) const {
  if (!Holds(size_, offset, size)) return TooShort();
  const auto from = static_cast<size_t>(offset), count = static_cast<size_t>(size);
  if (file_.has_value()) return file_->Read(from, count);
  return bytes_.substr(from, count);
}

absl::StatusOr<CountedBytes> Body::Read(int64_t offset, int64_t size) const {
  if (!Holds(size_, offset, size)) return TooShort();
  CountedBytes read{"", Allowance::Share(room_.memory)};
  if (!read.share.Grow(size)) return NoRoom();
  ASSIGN_OR_RETURN(read.bytes, ReadSome(offset, size));
  return read;
}

absl::StatusOr<CountedBytes> Body::Take() && {
  if (file_.has_value()) return Read(0, size_);
  return CountedBytes{std::move(bytes_), std::move(memory_)};
}

}  // namespace minicpmv::gateway
