#pragma once

#include <optional>
#include <variant>

#include "absl/status/statusor.h"
#include "tools/minicpmv/bench.h"
#include "tools/minicpmv/chat.h"
#include "tools/minicpmv/cluster.h"
#include "tools/minicpmv/inspect.h"
#include "tools/minicpmv/load/bench_serve.h"
#include "tools/minicpmv/service_settings.h"
#include "tools/minicpmv/show_workers.h"
#include "tools/minicpmv/tokenize.h"
#include "tools/minicpmv/trace.h"

namespace minicpmv {

using Command =
    std::variant<ChatOptions, TraceOptions, TokenizeOptions, InspectOptions, BenchOptions,
                 BenchServeOptions, WorkersOptions, ServeWorkerOptions, ServeRouterOptions,
                 ServeGatewayOptions, ServeAllOptions, ClusterOptions>;

// What the flags ask for; nothing, when that was --help or --version, which are answered here.
// INVALID_ARGUMENT names the flag.
absl::StatusOr<std::optional<Command>> ParseCommandLine(int argc, const char* const* argv);

}  // namespace minicpmv
