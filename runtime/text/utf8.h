#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace minicpmv {

// What stands at the front of some bytes.
struct Utf8Step {
  enum Kind {
    kWhole,   // a character
    kBroken,  // a maximal subpart: the start of a character that the next byte does not go on with
    kCut,     // all bytes there are, and more could complete the character
  };
  Kind kind;
  size_t length;  // 1 .. 4
};

// `bytes` holds at least one. Surrogates, overlong forms and values over U+10FFFF are broken (RFC
// 3629).
Utf8Step NextUtf8(absl::string_view bytes);

// Where the first byte stands that is not part of a whole character.
std::optional<size_t> FindInvalidUtf8(absl::string_view text);

// The code point of a whole character, as NextUtf8 measured it.
char32_t CodePointOf(absl::string_view character);

inline constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Moves what is certain from the front of `bytes` to the result: whole characters as they are, each
// maximal subpart that is broken as one U+FFFD (the practice the Unicode standard recommends, and
// Python's errors="replace"). The start of a character that may still be completed stays in
// `bytes`.
std::string TakeWholeUtf8(std::string& bytes);

}  // namespace minicpmv
