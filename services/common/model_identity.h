#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "minicpmv/common/v1/worker.pb.h"
#include "runtime/engine/local_model.h"

namespace minicpmv {

// What clients call the model of a folder where nobody says otherwise: the folder's own name.
std::string ModelNameOf(absl::string_view folder);

// Who a loaded model is. What of it has been loaded makes no difference.
common::v1::ModelIdentity IdentityOf(const LocalModel& model, absl::string_view name);

// FAILED_PRECONDITION names the field: a caller that means another model, or pages and rows that
// look different.
absl::Status CheckFingerprints(const common::v1::ModelIdentity& ours,
                               absl::string_view model_fingerprint,
                               absl::string_view layout_fingerprint);

}  // namespace minicpmv
