// Any bytes as a config file and as a safetensors index: every getter on every field gives a value
// or an error.
#include <cmath>
#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "runtime/base/check.h"
#include "runtime/base/json_file.h"
#include "runtime/checkpoint/safetensors_index.h"

namespace minicpmv {
namespace {

void ReadAll(const JsonObject& object) {
  for (const absl::string_view key : object.keys()) {
    const auto whole = object.OptionalInt(key, -1000, 1000);
    if (whole.ok() && whole->has_value()) CHECK(**whole >= -1000 && **whole <= 1000) << **whole;
    const auto number = object.OptionalNumber(key);
    if (number.ok() && number->has_value()) CHECK(std::isfinite(**number)) << **number;
    const bool present = object.Has(key);
    CHECK(present || !object.Bool(key).ok());
    CHECK(present || !object.String(key).ok());
    const auto integers = object.IntList(key, 0, INT64_MAX);
    if (integers.ok()) {
      for (const int64_t integer : *integers) CHECK_GE(integer, 0);
    }
    CHECK(present || !object.NumberList(key).ok());
    CHECK(present || !object.StringList(key).ok());
    const auto parts = object.ObjectList(key);  // a lone object, too
    if (!parts.ok()) {
      CHECK_EQ(parts.status().message().find('\n'), absl::string_view::npos);
      continue;
    }
    for (const JsonObject& part : *parts) ReadAll(part);
  }
}

}  // namespace
}  // namespace minicpmv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto object = minicpmv::JsonObject::Parse(text, "config.json");
  if (object.ok()) minicpmv::ReadAll(*object);
  const auto index = minicpmv::ParseSafetensorsIndex(text, "model.safetensors.index.json");
  if (!index.ok()) return 0;
  CHECK(object.ok());
  for (const auto& [tensor, shard] : *index) {
    CHECK(shard != ".." && shard[0] != '/' && !absl::StartsWith(shard, "../") &&
          !absl::StrContains(shard, "/../"))
        << shard;
  }
  return 0;
}
