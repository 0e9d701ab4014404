#include "services/common/fleet_names.h"

namespace minicpmv {

std::string NameOf(common::v1::Role role) {
  switch (role) {
    case common::v1::ROLE_VISION:
      return "vision";
    case common::v1::ROLE_PREFILL:
      return "prefill";
    case common::v1::ROLE_DECODE:
      return "decode";
    default:
      return "unknown";
  }
}

std::string NameOf(control::v1::WorkerState state) {
  switch (state) {
    case control::v1::WORKER_STATE_READY:
      return "ready";
    case control::v1::WORKER_STATE_DRAINING:
      return "draining";
    case control::v1::WORKER_STATE_LOST:
      return "lost";
    default:
      return "loading";
  }
}

std::string NameOf(common::v1::LinkKind kind) {
  switch (kind) {
    case common::v1::LINK_KIND_LOCAL:
      return "local";
    case common::v1::LINK_KIND_HOST:
      return "host";
    case common::v1::LINK_KIND_NCCL:
      return "nccl";
    default:
      return "unknown";
  }
}

common::v1::Role RoleFrom(absl::string_view name) {
  for (const common::v1::Role role : kRoles) {
    if (name == NameOf(role)) return role;
  }
  return common::v1::ROLE_UNSPECIFIED;
}

}  // namespace minicpmv
