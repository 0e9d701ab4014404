#include "runtime/base/log.h"

#include <atomic>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/json_text.h"
#include "runtime/base/quoted.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace minicpmv {
namespace {

constexpr char kTime[] = "%Y-%m-%dT%H:%M:%S.%e%z";

std::atomic<bool> is_json = false;

// Our own logger, not spdlog's default one: a program that embeds us keeps its own. Never
// destroyed, so that threads may log until the very end.
spdlog::logger& Logger() {
  static spdlog::logger* const logger = [] {
    auto* made = new spdlog::logger("minicpmv", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern(absl::StrCat(kTime, " %L %v"));
    return made;
  }();
  return *logger;
}

void Log(spdlog::level::level_enum level, absl::string_view line, absl::string_view request_id) {
  std::string text(line);
  if (is_json) {
    text = JsonText(line);
    if (!request_id.empty()) absl::StrAppend(&text, ", \"request_id\": ", JsonText(request_id));
  } else if (!request_id.empty()) {
    absl::StrAppend(&text, " (request ", Quoted(request_id), ")");
  }
  Logger().log(level, spdlog::string_view_t(text.data(), text.size()));
}

}  // namespace

void LogInfo(absl::string_view line, absl::string_view request_id) {
  Log(spdlog::level::info, line, request_id);
}
void LogWarning(absl::string_view line, absl::string_view request_id) {
  Log(spdlog::level::warn, line, request_id);
}
void LogError(absl::string_view line, absl::string_view request_id) {
  Log(spdlog::level::err, line, request_id);
}

void LogJson(absl::string_view role) {
  // The message comes as JSON already.
  Logger().set_pattern(absl::StrCat("{\"time\": \"", kTime, "\", \"level\": \"%l\", \"role\": ",
                                    JsonText(role), ", \"message\": %v}"));
  is_json = true;
}
bool IsLogJson() { return is_json; }

}  // namespace minicpmv
