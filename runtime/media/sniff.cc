#include "runtime/media/sniff.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace minicpmv {
namespace {

constexpr absl::string_view kAdvice = "send JPEG, PNG or WebP";

struct Signature {
  size_t offset;
  absl::string_view bytes;
  absl::string_view kind;
};

// Pictures that are not read.
constexpr Signature kOtherPictures[] = {
    {0, "GIF8", "GIF"},
    {0, "BM", "BMP"},
    {0, absl::string_view("II*\0", 4), "TIFF"},
    {0, absl::string_view("MM\0*", 4), "TIFF"},
    {0, absl::string_view("II+\0", 4), "TIFF"},
    {0, absl::string_view("MM\0+", 4), "TIFF"},
    {0, absl::string_view("\0\0\1\0", 4), "ICO"},
    {0, absl::string_view("\0\0\2\0", 4), "CUR"},
    {0, "8BPS", "Photoshop"},
    {0, "\xff\x0a", "JPEG XL"},
    {0, absl::string_view("\0\0\0\x0cJXL ", 8), "JPEG XL"},
    {0, absl::string_view("\0\0\0\x0cjP  ", 8), "JPEG 2000"},
    {0, "\xff\x4f\xff\x51", "JPEG 2000"},
    {0, "\x8aMNG", "MNG"},
    {4, "ftypavif", "AVIF"},
    {4, "ftypavis", "AVIF"},
    {4, "ftyphei", "HEIC"},
    {4, "ftyphev", "HEIC"},
    {4, "ftypmif1", "HEIC"},
    {4, "ftypmsf1", "HEIC"},
};

constexpr Signature kNotPictures[] = {
    {0, "%PDF", "a PDF document"},
    {4, "ftyp", "a video file"},
    {0, "\x1a\x45\xdf\xa3", "a video file"},
    {8, "AVI ", "a video file"},
    {8, "WAVE", "a sound file"},
    {0, "PK\3\4", "a ZIP archive"},
    {0, "\x1f\x8b", "a gzip archive"},
};

bool Has(absl::string_view head, const Signature& signature) {
  return head.size() >= signature.offset &&
         absl::StartsWith(head.substr(signature.offset), signature.bytes);
}

// Whether a person could read this: UTF-8 without control characters, as far as it goes.
bool IsText(absl::string_view head) {
  int following = 0;
  for (const unsigned char c : head) {
    if (following > 0) {
      if (c >> 6 != 0b10) return false;
      --following;
    } else if (c >= 0x80) {
      if (c < 0xc2 || c > 0xf4) return false;
      following = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    } else if (c < 0x20 && !absl::ascii_isspace(c)) {
      return false;
    }
  }
  return true;
}

// What markup or text calls itself, or "" when it is neither. `head` is cut anywhere.
absl::string_view TextKind(absl::string_view head) {
  if (!IsText(head)) return "";
  absl::ConsumePrefix(&head, "\xef\xbb\xbf");
  head = absl::StripLeadingAsciiWhitespace(head);
  if (absl::StrContains(head, "<svg")) return "SVG";
  if (absl::StartsWithIgnoreCase(head, "<!doctype html") ||
      absl::StartsWithIgnoreCase(head, "<html"))
    return "HTML";
  if (absl::StartsWith(head, "<?xml")) return "XML";
  return "text";
}

}  // namespace

absl::StatusOr<ImageKind> SniffImage(absl::Span<const uint8_t> bytes) {
  if (bytes.empty()) return absl::InvalidArgumentError("the image is empty (0 bytes)");
  // Enough for the comments and licence that some programs write before <svg.
  constexpr size_t kHead = 1024;
  const absl::string_view head(reinterpret_cast<const char*>(bytes.data()),
                               std::min(bytes.size(), kHead));
  if (absl::StartsWith(head, "\xff\xd8\xff")) return ImageKind::kJpeg;
  if (absl::StartsWith(head, "\x89PNG\r\n\x1a\n")) return ImageKind::kPng;
  if (absl::StartsWith(head, "RIFF") && Has(head, {8, "WEBP", ""})) return ImageKind::kWebp;
  for (const Signature& other : kOtherPictures) {
    if (Has(head, other))
      return absl::UnimplementedError(absl::StrCat(other.kind, " images are not read; ", kAdvice));
  }
  for (const Signature& other : kNotPictures) {
    if (Has(head, other))
      return absl::InvalidArgumentError(
          absl::StrCat("this is ", other.kind, ", not an image; ", kAdvice));
  }
  const absl::string_view text = TextKind(head);
  if (text == "SVG")
    return absl::UnimplementedError(absl::StrCat("SVG images are not read; ", kAdvice));
  if (!text.empty())
    return absl::InvalidArgumentError(absl::StrCat("this is ", text, ", not an image; ", kAdvice));
  return absl::InvalidArgumentError(
      absl::StrCat("these bytes are no image of a known kind; ", kAdvice));
}

}  // namespace minicpmv
