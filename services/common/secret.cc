#include "services/common/secret.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

namespace minicpmv {

Secret::Digest Secret::DigestOf(absl::string_view value) {
  Digest digest;
  static_assert(sizeof(digest) == SHA256_DIGEST_LENGTH);
  SHA256(reinterpret_cast<const unsigned char*>(value.data()), value.size(), digest.data());
  return digest;
}

bool Secret::Is(absl::string_view value) const {
  const Digest digest = DigestOf(value);
  return CRYPTO_memcmp(digest.data(), digest_.data(), digest.size()) == 0;
}

}  // namespace minicpmv
