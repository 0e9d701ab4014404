#include "runtime/base/blame.h"

#include "absl/strings/str_cat.h"

namespace minicpmv {

absl::Status Blame(absl::string_view what, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

}  // namespace minicpmv
