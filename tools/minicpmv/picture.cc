#include "tools/minicpmv/picture.h"

#include "runtime/base/mapped_file.h"
#include "runtime/base/status_macros.h"
#include "runtime/media/image.h"

namespace minicpmv {

absl::StatusOr<Picture> ReadPicture(const std::string& path) {
  Picture picture;
  picture.name = path;
  ASSIGN_OR_RETURN(picture.bytes, ReadFile(path, ImageLimits().bytes));
  return picture;
}

}  // namespace minicpmv
