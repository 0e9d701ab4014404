#include "tools/minicpmv/proc_status.h"

#include <fstream>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace minicpmv {

absl::StatusOr<int64_t> RssAnonBytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    absl::string_view words = line;
    int64_t kilobytes;
    if (absl::ConsumePrefix(&words, "RssAnon:") && absl::ConsumeSuffix(&words, " kB") &&
        absl::SimpleAtoi(absl::StripAsciiWhitespace(words), &kilobytes)) {
      return kilobytes * 1024;
    }
  }
  return absl::UnavailableError("/proc/self/status has no RssAnon");
}

}  // namespace minicpmv
