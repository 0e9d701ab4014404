#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// A picture's file in memory, unread.
struct Picture {
  std::string name;  // for errors
  std::string bytes;
};

// NOT_FOUND: no such file. OUT_OF_RANGE: larger than a picture may be.
absl::StatusOr<Picture> ReadPicture(const std::string& path);

// "data:image/png;base64,....". The media type is not believed. INVALID_ARGUMENT: not base64.
// `name` becomes the picture's.
absl::StatusOr<Picture> PictureFromDataUri(absl::string_view uri, const std::string& name);
bool IsDataUri(absl::string_view url);

}  // namespace minicpmv
