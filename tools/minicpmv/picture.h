#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace minicpmv {

// A picture's file in memory, unread.
struct Picture {
  std::string name;  // for errors
  std::string bytes;
};

// NOT_FOUND: no such file. OUT_OF_RANGE: larger than a picture may be.
absl::StatusOr<Picture> ReadPicture(const std::string& path);

}  // namespace minicpmv
