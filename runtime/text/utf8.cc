#include "runtime/text/utf8.h"

#include <cstdint>

namespace minicpmv {

Utf8Step NextUtf8(absl::string_view bytes) {
  const auto byte = [bytes](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8Step::kWhole, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8Step::kBroken, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // Only the second byte's range depends on the first: it excludes overlong forms, surrogates and
  // what is too large.
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Utf8Step::kCut, i};
    if (byte(i) < low || byte(i) > high) return {Utf8Step::kBroken, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8Step::kWhole, length};
}

std::optional<size_t> FindInvalidUtf8(absl::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = NextUtf8(text.substr(at));
    if (step.kind != Utf8Step::kWhole) return at;
    at += step.length;
  }
  return std::nullopt;
}

char32_t CodePointOf(absl::string_view character) {
  const auto byte = [character](size_t i) { return static_cast<uint8_t>(character[i]); };
  if (character.size() == 1) return byte(0);
  char32_t code = byte(0) & (0xFF >> (character.size() + 1));
  for (size_t i = 1; i < character.size(); ++i) code = code << 6 | (byte(i) & 0x3F);
  return code;
}

std::string TakeWholeUtf8(std::string& bytes) {
  std::string whole;
  size_t at = 0;
  while (at < bytes.size()) {
    const absl::string_view rest = absl::string_view(bytes).substr(at);
    const Utf8Step step = NextUtf8(rest);
    if (step.kind == Utf8Step::kCut) break;
    const absl::string_view taken =
        step.kind == Utf8Step::kWhole ? rest.substr(0, step.length) : kReplacementCharacter;
    whole.append(taken.data(), taken.size());
    at += step.length;
  }
  bytes.erase(0, at);
  return whole;
}

}  // namespace minicpmv
