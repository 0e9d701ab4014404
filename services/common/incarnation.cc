#include "services/common/incarnation.h"

#include <openssl/rand.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace minicpmv {

Incarnation DrawIncarnation() {
  Incarnation incarnation;
  CHECK_EQ(RAND_bytes(incarnation.data(), static_cast<int>(incarnation.size())), 1);
  return incarnation;
}

std::string BytesOf(const Incarnation& incarnation) {
  return {reinterpret_cast<const char*>(incarnation.data()), incarnation.size()};
}

absl::StatusOr<Incarnation> IncarnationFrom(absl::string_view bytes) {
  Incarnation incarnation;
  if (bytes.size() != incarnation.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("an incarnation has ", incarnation.size(), " bytes, not ", bytes.size()));
  }
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(incarnation.data()));
  return incarnation;
}

}  // namespace minicpmv
