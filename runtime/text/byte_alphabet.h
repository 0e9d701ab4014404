#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace minicpmv {

// Byte-level vocabularies spell each byte as one visible character (GPT-2's bytes_to_unicode):
// printable Latin-1 stands for itself, the other 68 bytes in rising order for U+0100, U+0101, ... A
// space is written "Ġ", a line feed "Ċ".

// The character of a byte, in UTF-8.
absl::string_view SpellingOf(uint8_t byte);

// The bytes of a token so spelled; nothing if a character is outside the alphabet.
std::optional<std::string> BytesOfSpelling(absl::string_view token);

}  // namespace minicpmv
