#include "runtime/text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/text/utf8.h"

namespace minicpmv {
namespace {

constexpr utf8proc_option_t kOptions =
    static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);

struct Range {
  char32_t first;
  char32_t last;
};

// What Unicode 10 to 15 have added of characters with a combining class or a canonical
// decomposition, and the one that two of them compose with (U+11930).
constexpr Range kLater[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99},
    {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}};

bool IsLater(char32_t code) {
  const Range* range =
      std::lower_bound(std::begin(kLater), std::end(kLater), code,
                       [](const Range& range, char32_t code) { return range.last < code; });
  return range != std::end(kLater) && range->first <= code;
}

bool IsAscii(char c) { return static_cast<unsigned char>(c) < 0x80; }

// 0xCC leads U+0300 .. U+033F: before it stands nothing that composes, decomposes or combines.
bool IsPlain(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
}

// utf8proc's own way to put marks in order is an insertion sort: quadratic in a text of marks only.
void OrderMarks(std::vector<utf8proc_int32_t>& codes) {
  const auto mark_class = [](utf8proc_int32_t code) {
    return utf8proc_get_property(code)->combining_class;
  };
  for (auto at = codes.begin(); at != codes.end();) {
    const auto first =
        std::find_if(at, codes.end(), [&](auto code) { return mark_class(code) != 0; });
    at = std::find_if(first, codes.end(), [&](auto code) { return mark_class(code) == 0; });
    std::stable_sort(first, at, [&](auto a, auto b) { return mark_class(a) < mark_class(b); });
  }
}

// Appends the composed form of `codes`, which are decomposed, and empties them.
void AppendComposed(std::vector<utf8proc_int32_t>& codes, std::string& out) {
  OrderMarks(codes);
  const utf8proc_ssize_t count = utf8proc_normalize_utf32(codes.data(), codes.size(), kOptions);
  CHECK_GE(count, 0);
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    utf8proc_uint8_t bytes[4];
    out.append(reinterpret_cast<const char*>(bytes), utf8proc_encode_char(codes[i], bytes));
  }
  codes.clear();
}

void AppendNfc(absl::string_view text, std::vector<utf8proc_int32_t>& codes, std::string& out) {
  while (!text.empty()) {
    const absl::string_view character = text.substr(0, NextUtf8(text).length);
    text.remove_prefix(character.size());
    const char32_t code = CodePointOf(character);
    if (IsLater(code)) {  // neither joins what is before it nor lets anything after it do so
      AppendComposed(codes, out);
      out.append(character.data(), character.size());
      continue;
    }
    std::array<utf8proc_int32_t, 32> parts;  // canonical decomposition gives four at most
    int boundary_state = 0;                  // of grapheme clusters; not asked for
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(code), parts.data(), parts.size(), kOptions, &boundary_state);
    CHECK(count >= 0 && count <= static_cast<utf8proc_ssize_t>(parts.size())) << count;
    codes.insert(codes.end(), parts.begin(), parts.begin() + count);
  }
  AppendComposed(codes, out);
}

}  // namespace

absl::string_view ToNfc(absl::string_view text, std::string& storage) {
  if (IsPlain(text)) return text;
  storage.clear();
  storage.reserve(text.size());
  std::vector<utf8proc_int32_t> codes;
  // Nothing composes across the front of an ASCII character, so stretches between two of them are
  // independent. A stretch begins with the last ASCII character before it, which marks may join.
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    while (end < text.size() && !IsAscii(text[end])) ++end;
    const absl::string_view stretch = text.substr(at, end - at);
    if (IsPlain(stretch)) {
      storage.append(stretch.data(), stretch.size());
    } else {
      AppendNfc(stretch, codes, storage);
    }
    at = end;
  }
  return storage;
}

}  // namespace minicpmv
