#include "runtime/base/log.h"

#include <memory>

#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace minicpmv {
namespace {

// Our own logger, not spdlog's default one: a program that embeds us keeps its own. Never
// destroyed, so that threads may log until the very end.
spdlog::logger& Logger() {
  static spdlog::logger* const logger = [] {
    auto* made = new spdlog::logger("minicpmv", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %L %v");
    return made;
  }();
  return *logger;
}

void Log(spdlog::level::level_enum level, absl::string_view line) {
  Logger().log(level, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace

void LogInfo(absl::string_view line) { Log(spdlog::level::info, line); }
void LogWarning(absl::string_view line) { Log(spdlog::level::warn, line); }
void LogError(absl::string_view line) { Log(spdlog::level::err, line); }

}  // namespace minicpmv
