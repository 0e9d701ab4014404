// Bytes become a form: fields lie within the body, one behind the other, and are the same however
// the body is cut. The first byte says how.
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "services/gateway/form_reader.h"

namespace minicpmv::gateway {
namespace {

absl::StatusOr<std::vector<FormField>> Read(absl::string_view body, size_t piece) {
  FormReader reader("B");
  for (size_t at = 0; at < body.size(); at += piece) {
    const absl::Status status = reader.Read(body.substr(at, piece));
    if (!status.ok()) return status;
  }
  return std::move(reader).Finish();
}

void Run(absl::string_view data) {
  FormBoundaryOf(data);
  if (data.empty()) return;
  const absl::string_view body = data.substr(1);
  const auto whole = Read(body, body.size() + 1);
  const auto pieces = Read(body, static_cast<size_t>(static_cast<uint8_t>(data[0])) + 1);
  CHECK_EQ(whole.ok(), pieces.ok());
  if (!whole.ok()) return;
  CHECK_EQ(whole->size(), pieces->size());
  int64_t end = 0;
  for (size_t i = 0; i < whole->size(); ++i) {
    const FormField &one = (*whole)[i], &other = (*pieces)[i];
    CHECK(one.name == other.name && one.filename == other.filename);
    CHECK(one.offset == other.offset && one.size == other.size);
    CHECK(one.offset >= end && one.size >= 0);
    end = one.offset + one.size;
  }
  CHECK(end <= static_cast<int64_t>(body.size()));
}

}  // namespace
}  // namespace minicpmv::gateway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  minicpmv::gateway::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
