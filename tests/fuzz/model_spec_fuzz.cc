// Three configuration files, split at NUL bytes, become a spec or a status; a spec's numbers stay in their bounds.
#include <cstdint>
#include <vector>

#include "absl/strings/str_split.h"
#include "runtime/base/check.h"
#include "runtime/model/family.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace minicpmv;
  const std::vector<absl::string_view> files =
      absl::StrSplit(absl::string_view(reinterpret_cast<const char*>(data), size), absl::MaxSplits('\0', 2));
  if (files.size() < 2) return 0;
  const absl::StatusOr<JsonObject> config = JsonObject::Parse(files[0], "config.json");
  const absl::StatusOr<JsonObject> preprocessor = JsonObject::Parse(files[1], "preprocessor_config.json");
  if (!config.ok() || !preprocessor.ok()) return 0;
  std::optional<JsonObject> generation;
  if (files.size() == 3) {
    absl::StatusOr<JsonObject> parsed = JsonObject::Parse(files[2], "generation_config.json");
    if (parsed.ok()) generation = *std::move(parsed);
  }
  const absl::StatusOr<ModelSpec> spec = ParseModelSpec(*config, *preprocessor, generation);
  if (!spec.ok()) {
    CHECK(spec.status().message().find('\n') == absl::string_view::npos) << spec.status();
    return 0;
  }
  CHECK_EQ(spec->language.heads * spec->language.head_size, spec->language.hidden);
  CHECK_EQ(spec->language.heads % spec->language.kv_heads, 0);
  CHECK(spec->vision.layers > 0 && spec->vision.table_side > 0);
  CHECK(spec->generation.top_p > 0 && spec->generation.top_p <= 1 && spec->generation.temperature > 0);
  return 0;
}
