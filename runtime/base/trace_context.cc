#include "runtime/base/trace_context.h"

#include <algorithm>
#include <set>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace minicpmv {
namespace {

constexpr size_t kTraceDigits = 32, kSpanDigits = 16;
// "VV-TRACE-SPAN-FF"; a later version may have more behind it.
constexpr size_t kParentBytes = 2 + 1 + kTraceDigits + 1 + kSpanDigits + 1 + 2;
constexpr uint8_t kSampled = 1;
constexpr size_t kMaxStateBytes = 512, kMaxStateMembers = 32;
constexpr size_t kMaxKeyBytes = 256, kMaxTenantBytes = 241, kMaxSystemBytes = 14;
constexpr size_t kMaxValueBytes = 256;

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'f');
  });
}

bool IsId(absl::string_view text) {
  return IsHex(text) && text.find_first_not_of('0') != absl::string_view::npos;
}

uint8_t ByteOf(absl::string_view digits) {
  const auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  return static_cast<uint8_t>(value(digits[0]) * 16 + value(digits[1]));
}

uint64_t Draw() {
  thread_local absl::BitGen random;
  return absl::Uniform<uint64_t>(absl::IntervalClosed, random, 1, UINT64_MAX);  // 0 is no id
}

std::string DrawSpanId() { return absl::StrCat(absl::Hex(Draw(), absl::kZeroPad16)); }

bool IsKeyPart(absl::string_view text, size_t max, bool may_begin_with_digit) {
  if (text.empty() || text.size() > max) return false;
  const auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!is_letter(text[0]) && !(may_begin_with_digit && is_digit(text[0]))) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return is_letter(c) || is_digit(c) || absl::string_view("_-*/").find(c) != text.npos;
  });
}

bool IsKey(absl::string_view key) {
  const size_t at = key.find('@');
  if (at == key.npos) return IsKeyPart(key, kMaxKeyBytes, /*may_begin_with_digit=*/false);
  return IsKeyPart(key.substr(0, at), kMaxTenantBytes, /*may_begin_with_digit=*/true) &&
         IsKeyPart(key.substr(at + 1), kMaxSystemBytes, /*may_begin_with_digit=*/false);
}

bool IsValue(absl::string_view value) {
  return !value.empty() && value.size() <= kMaxValueBytes && value.back() != ' ' &&
         std::all_of(value.begin(), value.end(),
                     [](char c) { return c >= ' ' && c <= '~' && c != ',' && c != '='; });
}

}  // namespace

std::string TraceContext::Traceparent() const {
  return absl::StrCat("00-", trace_id, "-", span_id, "-", absl::Hex(flags, absl::kZeroPad2));
}

TraceContext NewTrace() {
  TraceContext made;
  made.trace_id = absl::StrCat(DrawSpanId(), DrawSpanId());
  made.span_id = DrawSpanId();
  made.flags = kSampled;
  return made;
}

TraceContext ChildOf(const TraceContext& parent) {
  if (parent.empty()) return NewTrace();
  return {parent.trace_id, DrawSpanId(), parent.span_id, parent.flags, parent.state};
}

TraceContext ContinueTrace(absl::string_view traceparent, absl::string_view tracestate) {
  std::optional<TraceContext> parent = ParseTraceparent(traceparent);
  if (!parent) return NewTrace();
  if (IsTracestate(tracestate)) parent->state = std::string(tracestate);
  return ChildOf(*parent);
}

std::optional<TraceContext> ParseTraceparent(absl::string_view text) {
  if (text.size() < kParentBytes) return std::nullopt;
  const absl::string_view version = text.substr(0, 2);
  const absl::string_view trace = text.substr(3, kTraceDigits);
  const absl::string_view span = text.substr(4 + kTraceDigits, kSpanDigits);
  const absl::string_view flags = text.substr(5 + kTraceDigits + kSpanDigits, 2);
  const bool has_dashes = text[2] == '-' && text[3 + kTraceDigits] == '-' &&
                          text[4 + kTraceDigits + kSpanDigits] == '-';
  if (!has_dashes || !IsHex(version) || !IsId(trace) || !IsId(span) || !IsHex(flags)) {
    return std::nullopt;
  }
  const bool has_more = text.size() > kParentBytes;
  if (version == "ff" || (has_more && (version == "00" || text[kParentBytes] != '-'))) {
    return std::nullopt;
  }
  // Bits that this version does not know are not handed on.
  const uint8_t known = ByteOf(flags) & kSampled;
  return TraceContext{std::string(trace), std::string(span), "", known, ""};
}

bool IsTracestate(absl::string_view text) {
  const bool is_printable =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (text.size() > kMaxStateBytes || !is_printable) return false;
  std::set<absl::string_view> keys;
  for (absl::string_view member : absl::StrSplit(text, ',')) {
    member = absl::StripAsciiWhitespace(member);
    if (member.empty()) continue;
    const size_t equals = member.find('=');
    if (equals == member.npos || !IsKey(member.substr(0, equals)) ||
        !IsValue(member.substr(equals + 1)) || !keys.insert(member.substr(0, equals)).second ||
        keys.size() > kMaxStateMembers) {
      return false;
    }
  }
  return !keys.empty();
}

}  // namespace minicpmv
