#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "services/common/secret.h"

namespace minicpmv::gateway {

// Who may ask, by key. Immutable; thread-safe.
class ApiKeys {
 public:
  // Nobody is asked for a key, and all are one tenant.
  ApiKeys() = default;
  // A line is "TENANT KEY"; empty lines and lines that begin with # are passed over. A tenant has 1
  // to 64 printable characters, a key 16 to 1024; a tenant may have several keys. NOT_FOUND,
  // INVALID_ARGUMENT name the file and the line, never a key.
  static absl::StatusOr<ApiKeys> Load(const std::string& path);
  static absl::StatusOr<ApiKeys> Parse(absl::string_view text, absl::string_view name);

  bool empty() const { return keys_.empty(); }

  // The tenant of who shows "Authorization: `authorization`"; nothing for a stranger. Takes as long
  // whatever is shown.
  std::optional<std::string> TenantOf(absl::string_view authorization) const;

 private:
  struct Key {
    Secret secret;
    std::string tenant;
  };
  std::vector<Key> keys_;
};

}  // namespace minicpmv::gateway
