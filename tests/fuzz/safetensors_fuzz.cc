// Any bytes as a safetensors file, and as the header of one: what is taken keeps the format's
// promises.
#include <cstdint>
#include <string>

#include "runtime/base/check.h"
#include "runtime/checkpoint/safetensors_header.h"

namespace minicpmv {
namespace {

void Parse(absl::Span<const uint8_t> file) {
  const auto entries = ParseSafetensorsHeader(file, "fuzz.safetensors");
  if (!entries.ok()) {
    CHECK(!entries.status().message().empty() && entries.status().message().size() < 1000)
        << entries.status();
    CHECK_EQ(entries.status().message().find('\n'), absl::string_view::npos);
    return;
  }
  uint64_t at = entries->empty() ? file.size() : entries->front().begin;
  CHECK_GE(at, uint64_t{8});
  for (const SafetensorsEntry& entry : *entries) {
    CHECK_EQ(entry.begin, at);
    CHECK_LE(entry.begin, entry.end);
    CHECK_LE(entry.end, file.size());
    at = entry.end;
  }
  CHECK_EQ(at, file.size());
}

}  // namespace
}  // namespace minicpmv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  minicpmv::Parse({data, size});
  // Once more with a frame that is right: the first byte says how many bytes of data follow the
  // header.
  if (size == 0) return 0;
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) file[i] = static_cast<char>(uint64_t{size - 1} >> (8 * i));
  file.append(reinterpret_cast<const char*>(data + 1), size - 1);
  file.append(data[0], '\0');
  minicpmv::Parse({reinterpret_cast<const uint8_t*>(file.data()), file.size()});
  return 0;
}
