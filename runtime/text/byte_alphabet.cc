#include "runtime/text/byte_alphabet.h"

#include <array>

#include "runtime/text/utf8.h"

namespace minicpmv {
namespace {

constexpr int kCodes = 0x144;  // one past the largest code point of the alphabet

struct Alphabet {
  std::array<std::string, 256> spellings;
  std::array<int, kCodes> bytes;  // -1: not of the alphabet
};

Alphabet MakeAlphabet() {
  Alphabet alphabet;
  alphabet.bytes.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    const int code = visible ? byte : next++;
    alphabet.bytes[code] = byte;
    std::string& spelling = alphabet.spellings[byte];
    if (code < 0x80) {
      spelling = static_cast<char>(code);
    } else {
      spelling = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    }
  }
  return alphabet;
}

const Alphabet& TheAlphabet() {
  static const Alphabet& alphabet = *new Alphabet(MakeAlphabet());
  return alphabet;
}

}  // namespace

absl::string_view SpellingOf(uint8_t byte) { return TheAlphabet().spellings[byte]; }

std::optional<std::string> BytesOfSpelling(absl::string_view token) {
  std::string bytes;
  for (absl::string_view rest = token; !rest.empty();) {
    const Utf8Step step = NextUtf8(rest);
    if (step.kind != Utf8Step::kWhole) return std::nullopt;
    const char32_t code = CodePointOf(rest.substr(0, step.length));
    if (code >= kCodes || TheAlphabet().bytes[code] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(TheAlphabet().bytes[code]));
    rest.remove_prefix(step.length);
  }
  return bytes;
}

}  // namespace minicpmv
