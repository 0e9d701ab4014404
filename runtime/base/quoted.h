#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace minicpmv {

// Text from outside as it may stand in an error or a log line: in quotes, control and non-ASCII
// bytes as \xNN, cut with an ellipsis after `limit` bytes. Never holds a line feed, so an error
// stays one line.
std::string Quoted(absl::string_view text, size_t limit = 120);

}  // namespace minicpmv
