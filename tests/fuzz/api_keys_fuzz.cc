// Any bytes as the file of --api-keys-file: an error names the file, never what is in it; and
// whoever is let in is a tenant that has a name.
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/check.h"
#include "services/gateway/api_keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace minicpmv;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<gateway::ApiKeys> keys = gateway::ApiKeys::Parse(text, "keys");
  if (!keys.ok()) {
    CHECK(absl::StartsWith(keys.status().message(), "keys: ")) << keys.status();
    return 0;
  }
  CHECK(!keys->empty());
  CHECK(!keys->TenantOf("").has_value() && !keys->TenantOf("Bearer ").has_value());
  for (const absl::string_view word : absl::StrSplit(text, absl::ByAnyChar(" \t\r\n"))) {
    const std::optional<std::string> tenant = keys->TenantOf(absl::StrCat("Bearer ", word));
    CHECK(!tenant.has_value() || (!tenant->empty() && word.size() >= 16)) << word;
  }
  return 0;
}
