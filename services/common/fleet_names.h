#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "minicpmv/common/v1/worker.pb.h"
#include "minicpmv/control/v1/fleet.pb.h"

namespace minicpmv {

// What workers play, in the order in which they are listed.
inline constexpr common::v1::Role kRoles[] = {common::v1::ROLE_VISION, common::v1::ROLE_PREFILL,
                                              common::v1::ROLE_DECODE};

// As flags, metrics and people write them: "vision", "loading", "host"; "unknown" for what this
// version does not know, and for no role or kind.
std::string NameOf(common::v1::Role role);
std::string NameOf(control::v1::WorkerState state);  // the unspecified one is loading
std::string NameOf(common::v1::LinkKind kind);

// The role of that name; ROLE_UNSPECIFIED: there is none.
common::v1::Role RoleFrom(absl::string_view name);

}  // namespace minicpmv
