#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/link/link.h"

namespace minicpmv {

// 16 random bytes: one life of a process.
Incarnation DrawIncarnation();

// As messages carry it.
std::string BytesOf(const Incarnation& incarnation);
// INVALID_ARGUMENT: not 16 bytes.
absl::StatusOr<Incarnation> IncarnationFrom(absl::string_view bytes);

}  // namespace minicpmv
