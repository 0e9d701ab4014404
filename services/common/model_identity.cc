#include "services/common/model_identity.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "services/common/status_proto.h"

namespace minicpmv {
namespace {

absl::Status CheckOne(absl::string_view field, absl::string_view ours, absl::string_view theirs) {
  if (ours == theirs) return absl::OkStatus();
  // The first bytes tell two of them apart, and whatever came from outside is shown in hex only.
  return WithField(absl::FailedPreconditionError(absl::StrCat(
                       field, " begins with ", absl::BytesToHexString(theirs.substr(0, 4)), ", of ",
                       theirs.size(), " bytes: this worker's begins with ",
                       absl::BytesToHexString(ours.substr(0, 4)))),
                   field);
}

}  // namespace

std::string ModelNameOf(absl::string_view folder) {
  std::error_code error;
  const std::filesystem::path path =
      std::filesystem::weakly_canonical(std::filesystem::path(std::string(folder)), error);
  const std::string name =
      path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
  return error || name.empty() ? "model" : name;
}

common::v1::ModelIdentity IdentityOf(const LocalModel& model, absl::string_view name) {
  common::v1::ModelIdentity identity;
  identity.set_model(std::string(name));
  identity.set_model_fingerprint(model.model_fingerprint());
  identity.set_layout_fingerprint(model.layout_fingerprint());
  identity.set_numerics_class(model.numerics_class());
  return identity;
}

absl::Status CheckFingerprints(const common::v1::ModelIdentity& ours,
                               absl::string_view model_fingerprint,
                               absl::string_view layout_fingerprint) {
  RETURN_IF_ERROR(CheckOne("model_fingerprint", ours.model_fingerprint(), model_fingerprint));
  return CheckOne("layout_fingerprint", ours.layout_fingerprint(), layout_fingerprint);
}

}  // namespace minicpmv
