#pragma once

#include "absl/strings/string_view.h"

namespace minicpmv {

// One line each on standard error, with the time and a letter for the level. Thread-safe; lines of
// two threads never mix. Text from outside belongs in Quoted() first; prompts, replies and media
// belong in no line. `request_id`: whose request the line is about, as it came; "": nobody's in
// particular.
void LogInfo(absl::string_view line, absl::string_view request_id = "");
void LogWarning(absl::string_view line, absl::string_view request_id = "");
void LogError(absl::string_view line, absl::string_view request_id = "");

// From now on lines are JSON objects: {"time", "level": "info"|"warning"|"error", "role",
// "message"}, and "request_id" where there is one. `role`: what this process is.
void LogJson(absl::string_view role);
bool IsLogJson();

}  // namespace minicpmv
