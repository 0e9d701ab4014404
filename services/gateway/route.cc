#include "services/gateway/route.h"

#include <algorithm>
#include <vector>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace minicpmv::gateway {
namespace {

constexpr size_t kMaxIdBytes = 128;

}  // namespace

std::optional<Route> RouteOf(absl::string_view target) {
  target = target.substr(0, target.find('?'));
  if (target == "/v1/chat/completions") return Route{Route::kChat, ""};
  if (target == "/health") return Route{Route::kHealth, ""};
  if (target == "/version") return Route{Route::kVersion, ""};
  if (target == "/v1/models") return Route{Route::kModels, ""};
  if (target == "/v1/files") return Route{Route::kFiles, ""};
  if (absl::ConsumePrefix(&target, "/v1/files/") && !target.empty()) {
    return Route{Route::kFiles, std::string(target)};
  }
  if (absl::ConsumePrefix(&target, "/v1/models/") && !target.empty()) {
    return Route{Route::kModels, std::string(target)};
  }
  return std::nullopt;
}

absl::string_view Route::methods() const {
  switch (kind) {
    case kChat:
      return "POST";
    case kFiles:
      return name.empty() ? "GET, POST" : "DELETE, GET";
    default:
      return "GET";
  }
}

bool Route::Takes(absl::string_view method) const {
  if (method == "HEAD") method = "GET";
  const std::vector<absl::string_view> taken = absl::StrSplit(methods(), ", ");
  return std::find(taken.begin(), taken.end(), method) != taken.end();
}

std::string RequestIdOf(absl::string_view sent) {
  std::string id;
  for (const char c : sent) {
    if (id.size() == kMaxIdBytes) break;
    const bool fits = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
                      c == '.' || c == ':';
    if (fits) id += c;
  }
  if (!id.empty()) return id;
  absl::BitGen random;
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random),
                         absl::Uniform<uint64_t>(random));
}

}  // namespace minicpmv::gateway
