#include "runtime/text/splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/quoted.h"
#include "runtime/text/utf8.h"

namespace minicpmv {
namespace {

constexpr size_t kMaxPatternBytes = 4096;
constexpr uint32_t kHeapKibibytes = 256 * 1024;

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using CompiledPattern = std::unique_ptr<pcre2_code, Freer<pcre2_code_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;

std::string WithExactWhiteSpace(absl::string_view pattern) {
  std::string result;
  for (size_t i = 0; i < pattern.size(); ++i) {
    result.push_back(pattern[i]);
    if (pattern[i] != '\\' || i + 1 == pattern.size()) continue;
    const char escaped = pattern[++i];
    if (escaped == 's') {
      result.append("p{White_Space}");
    } else if (escaped == 'S') {
      result.append("P{White_Space}");
    } else {
      result.push_back(escaped);
    }
  }
  return result;
}

std::string ErrorWords(int code) {
  PCRE2_UCHAR words[256] = {};
  pcre2_get_error_message(code, words, sizeof(words));
  return reinterpret_cast<const char*>(words);
}

}  // namespace

struct Splitter::Code {
  CompiledPattern pattern;
};

Splitter::Splitter(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Splitter::~Splitter() = default;

absl::StatusOr<std::unique_ptr<Splitter>> Splitter::Create(absl::string_view pattern,
                                                           absl::string_view name) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": a pattern of ", pattern.size(),
                                                   " bytes, not at most ", kMaxPatternBytes));
  }
  const std::string exact = WithExactWhiteSpace(pattern);
  int error = 0;
  PCRE2_SIZE place = 0;
  CompiledPattern compiled(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(exact.data()), exact.size(),
                                         PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error,
                                         &place, nullptr));
  if (compiled == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": ", Quoted(pattern), " is not a regular expression: ", ErrorWords(error)));
  }
  // Where the machine has no JIT compiler the interpreter answers the same.
  pcre2_jit_compile(compiled.get(), PCRE2_JIT_COMPLETE);
  auto code = std::make_unique<Code>();
  code->pattern = std::move(compiled);
  return std::unique_ptr<Splitter>(new Splitter(std::move(code)));
}

absl::Status Splitter::Split(absl::string_view text,
                             absl::FunctionRef<void(absl::string_view)> piece) const {
  const pcre2_code* pattern = code_->pattern.get();
  const MatchData match(pcre2_match_data_create(1, nullptr));
  const MatchContext context(pcre2_match_context_create(nullptr));
  CHECK(match != nullptr && context != nullptr);
  // A good pattern takes a few steps a character; one that backtracks without end stops here.
  const uint64_t steps = (uint64_t{1} << 20) + uint64_t{64} * text.size();
  pcre2_set_match_limit(context.get(),
                        static_cast<uint32_t>(std::min<uint64_t>(steps, UINT32_MAX)));
  pcre2_set_heap_limit(context.get(), kHeapKibibytes);

  const PCRE2_SPTR subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t from = 0;  // where the next search begins
  size_t end = 0;   // of the last match
  bool matched = false;
  while (from <= text.size()) {
    // The text is known to be valid; checking it again at each search would be quadratic.
    int result = pcre2_match(pattern, subject, text.size(), from, PCRE2_NO_UTF_CHECK, match.get(),
                             context.get());
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter's stack is on the heap
      result = pcre2_match(pattern, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                           match.get(), context.get());
    }
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0)
      return absl::ResourceExhaustedError(absl::StrCat("splitting the text: ", ErrorWords(result)));
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match.get());
    const size_t match_first = ends[0];
    const size_t match_end = ends[1];
    CHECK(from <= match_first && match_first <= match_end) << match_first << " " << match_end;
    if (match_first == match_end && matched && match_end == end) {
      // An empty match just where the last one ended does not count: the search goes on one
      // character later.
      from = end < text.size() ? end + NextUtf8(text.substr(end)).length : text.size() + 1;
      continue;
    }
    if (match_first > end) piece(text.substr(end, match_first - end));
    if (match_end > match_first) piece(text.substr(match_first, match_end - match_first));
    matched = true;
    from = end = match_end;
  }
  if (end < text.size()) piece(text.substr(end));
  return absl::OkStatus();
}

}  // namespace minicpmv
