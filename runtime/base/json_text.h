#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace minicpmv {

// `text` as a JSON string, quotes included: plain ASCII, bytes that are no UTF-8 replaced.
std::string JsonText(absl::string_view text);

}  // namespace minicpmv
