#pragma once

#include <openssl/sha.h>

#include <fstream>
#include <sstream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/media/image.h"

namespace minicpmv {

// A value that must be there; the test ends with the status otherwise.
template <typename T>
T Must(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return *std::move(value);
}

// A file of the repository.
inline std::string FileBytes(const std::string& path) {
  std::ifstream file(absl::StrCat(MINICPMV_SOURCE_DIR, "/", path), std::ios::binary);
  CHECK(file.good()) << path;
  std::stringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

// 420 x 415: an overview and four slices under the nano model's rule.
inline std::string SlicedPicture() { return FileBytes("tools/nano/pictures/037-0.png"); }
// 466 x 343: the same, other sizes.
inline std::string WidePicture() { return FileBytes("tools/nano/pictures/100-0.png"); }
// 88 x 88: an overview only.
inline std::string SmallPicture() { return FileBytes("tools/nano/pictures/137-0.png"); }

inline std::string DigestOf(const std::string& bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

inline absl::Span<const uint8_t> SpanOf(const std::string& bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

}  // namespace minicpmv
