#pragma once

#include <array>

#include "absl/strings/string_view.h"

namespace minicpmv {

// A value that others have to know. Digests are compared, in constant time: how long a comparison
// takes tells neither the length nor how far two values agree. Immutable; thread-safe.
class Secret {
 public:
  explicit Secret(absl::string_view value) : digest_(DigestOf(value)) {}

  bool Is(absl::string_view value) const;

 private:
  using Digest = std::array<unsigned char, 32>;  // SHA-256
  static Digest DigestOf(absl::string_view value);

  Digest digest_;
};

}  // namespace minicpmv
