#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv::gateway {

// One field of a form, and where its bytes are in the body.
struct FormField {
  std::string name;
  std::optional<std::string> filename;
  int64_t offset = 0, size = 0;
};

// The boundary that a Content-Type of multipart/form-data names; nothing: it is another type, or
// names none that RFC 2046 allows.
std::optional<std::string> FormBoundaryOf(absl::string_view content_type);

// Reads a body of multipart/form-data (RFC 7578) piece by piece, and keeps of it what is between
// the bytes of its fields only. For one thread.
class FormReader {
 public:
  static constexpr size_t kMaxFields = 16, kMaxHeaderBytes = 4 << 10;

  explicit FormReader(absl::string_view boundary);

  // The next bytes. INVALID_ARGUMENT: it is no form, or has more fields or longer headers than one
  // may have; nothing more is read then.
  absl::Status Read(absl::string_view piece);
  // All bytes were read. INVALID_ARGUMENT: the form has no end.
  absl::StatusOr<std::vector<FormField>> Finish() &&;

 private:
  enum class State { kPreamble, kAfterDelimiter, kHeader, kField, kEnd };

  // Whether there was something to take off the pending bytes.
  absl::StatusOr<bool> Step();
  absl::StatusOr<bool> FindDelimiter();
  absl::StatusOr<bool> ReadHeader();
  void Drop(size_t bytes);

  const std::string delimiter_;  // "\r\n--BOUNDARY"
  State state_ = State::kPreamble;
  std::string pending_;  // not understood yet
  int64_t offset_;       // of its first byte in the body
  std::vector<FormField> fields_;
};

}  // namespace minicpmv::gateway
