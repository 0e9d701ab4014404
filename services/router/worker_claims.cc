#include "services/router/worker_claims.h"

#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "services/common/durations.h"

namespace minicpmv::router {
namespace {

constexpr size_t kMaxName = 256;  // bytes of an id or an address
constexpr int kMaxLinks = 65536;
constexpr uint64_t kMaxOutstanding = uint64_t{1} << 40;

absl::Status Refuse(absl::string_view field, absl::string_view words) {
  return absl::InvalidArgumentError(absl::StrCat(field, " ", words));
}

absl::Status CheckName(absl::string_view field, absl::string_view name) {
  if (name.empty()) return Refuse(field, "is empty");
  if (name.size() <= kMaxName) return absl::OkStatus();
  return Refuse(field, absl::StrCat("has ", name.size(), " bytes: at most ", kMaxName));
}

absl::Status CheckBytes(absl::string_view field, absl::string_view bytes, size_t size) {
  if (bytes.size() == size) return absl::OkStatus();
  return Refuse(field, absl::StrCat("has ", bytes.size(), " bytes, not ", size));
}

// Written so that a NaN fails it.
absl::Status CheckRate(absl::string_view field, double rate) {
  if (std::isfinite(rate) && rate >= 0) return absl::OkStatus();
  return Refuse(field, absl::StrCat("is ", rate));
}

absl::Status CheckDuration(absl::string_view field, const google::protobuf::Duration& duration) {
  const absl::Status status = DurationFrom(duration).status();
  return status.ok() ? status : Blame(field, status);
}

}  // namespace

absl::Status CheckHello(const control::v1::WorkerHello& hello) {
  RETURN_IF_ERROR(CheckName("hello.worker_id", hello.worker_id()));
  RETURN_IF_ERROR(CheckBytes("hello.incarnation", hello.incarnation(), 16));
  RETURN_IF_ERROR(CheckName("hello.address", hello.address()));
  if (hello.admin_address().size() > kMaxName) return Refuse("hello.admin_address", "is too long");
  if (hello.roles().empty()) return Refuse("hello.roles", "is empty");
  std::set<int> roles;
  for (const int role : hello.roles()) {
    if (!common::v1::Role_IsValid(role) || role == common::v1::ROLE_UNSPECIFIED) {
      return Refuse("hello.roles", absl::StrCat("holds ", role, ", which is no role"));
    }
    if (!roles.insert(role).second) return Refuse("hello.roles", "names a role twice");
  }
  const common::v1::ModelIdentity& model = hello.model();
  RETURN_IF_ERROR(CheckBytes("hello.model.model_fingerprint", model.model_fingerprint(), 32));
  RETURN_IF_ERROR(CheckBytes("hello.model.layout_fingerprint", model.layout_fingerprint(), 32));
  if (model.numerics_class().size() > kMaxName) {
    return Refuse("hello.model.numerics_class", "is too long");
  }
  if (hello.first_transfer_version() > hello.last_transfer_version()) {
    return Refuse("hello.first_transfer_version", "is above the last");
  }
  return absl::OkStatus();
}

absl::Status CheckLoad(const control::v1::WorkerLoad& load, const control::v1::WorkerHello& hello) {
  if (load.state() != control::v1::WORKER_STATE_LOADING &&
      load.state() != control::v1::WORKER_STATE_READY &&
      load.state() != control::v1::WORKER_STATE_DRAINING) {
    return Refuse("load.state", absl::StrCat("is ", static_cast<int>(load.state())));
  }
  std::set<int> roles(hello.roles().begin(), hello.roles().end());
  for (const control::v1::RoleLoad& role : load.roles()) {
    if (roles.erase(role.role()) == 0) {
      return Refuse("load.roles", "names a role twice, or one that the worker does not play");
    }
    RETURN_IF_ERROR(CheckRate("load.roles.rate", role.rate()));
    RETURN_IF_ERROR(CheckDuration("load.roles.step_age", role.step_age()));
    RETURN_IF_ERROR(CheckDuration("load.roles.predicted_step", role.predicted_step()));
    if (role.outstanding() > kMaxOutstanding) {
      return Refuse("load.roles.outstanding", absl::StrCat("is ", role.outstanding()));
    }
  }
  if (load.links_size() > kMaxLinks) return Refuse("load.links", "are too many");
  for (const control::v1::LinkState& link : load.links()) {
    RETURN_IF_ERROR(CheckRate("load.links.rate", link.rate()));
  }
  return absl::OkStatus();
}

}  // namespace minicpmv::router
