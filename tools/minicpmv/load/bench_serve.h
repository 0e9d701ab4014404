#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tools/minicpmv/load/load_figures.h"
#include "tools/minicpmv/load/load_plan.h"
#include "tools/minicpmv/server_access.h"

namespace minicpmv {

struct BenchServeOptions {
  ServerAccess server;
  LoadOptions load;                // but for its scale
  std::optional<double> scale;     // unset: as the model's context is to that of the large model
  std::optional<int64_t> context;  // tokens of prompt and reply at most; unset: the model's
  int streams = 256;
  absl::Duration timeout = absl::Minutes(5);
  absl::Duration patience;  // see sdk::ClientOptions; zero: every error is a figure
  Slo slo = {absl::Seconds(2), absl::Milliseconds(200)};
  std::string json;    // the file for the figures; "": none
  std::string script;  // instead of sending: a file of first turns; see ScriptLineOf
};

// Sends a load to a fleet, whatever it makes of it, and prints what came of it; a line of progress
// each second goes to standard error. Ctrl-C ends the load, not its figures. Errors of the fleet
// are figures; it fails where the fleet does not answer at all, or the load is none
// (INVALID_ARGUMENT names the flag).
absl::Status BenchServe(const BenchServeOptions& options);

// INVALID_ARGUMENT names what is wrong.
// "text:6,image:3,images:1": a share of each class; none is 0.
absl::StatusOr<LoadMix> ParseMix(absl::string_view text);
// "ttft:2s,itl:200ms": what is not named is not asked for.
absl::StatusOr<Slo> ParseSlo(absl::string_view text);

}  // namespace minicpmv
