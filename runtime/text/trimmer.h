#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace minicpmv {

// Takes white space off both ends of a text that comes in pieces, as Python's strip() does. For one
// thread.
class Trimmer {
 public:
  // `text` is whole UTF-8. White space waits until something follows it.
  std::string Push(absl::string_view text);

 private:
  bool begun_ = false;
  std::string waiting_;
};

}  // namespace minicpmv
