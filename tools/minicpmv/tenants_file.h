#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "services/router/tenants.h"

namespace minicpmv {

// Reads who is granted what, in YAML:
//
//   tenants:
//     alice: {weight: 3, requests-per-minute: 60, tokens-per-minute: 1e6, megapixels-per-minute:
//     90} bob: {weight: 1}
//   others: {requests-per-minute: 10}
//
// What is left out is a weight of 1, and no limit. NOT_FOUND, INVALID_ARGUMENT: name the file and
// what in it.
absl::StatusOr<router::TenantBook> ReadTenants(const std::string& path);

}  // namespace minicpmv
