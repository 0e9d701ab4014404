#include "services/gateway/route.h"

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
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
  if (absl::ConsumePrefix(&target, "/v1/models/") && !target.empty()) {
    return Route{Route::kModels, std::string(target)};
  }
  return std::nullopt;
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
