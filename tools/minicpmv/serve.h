#pragma once

#include "absl/status/status.h"
#include "tools/minicpmv/service_settings.h"

namespace minicpmv {

// Each answers until SIGTERM, Ctrl-C or an order to drain, and returns OK when what ran has ended
// or was handed back. A second signal hands back at once.
absl::Status ServeWorker(const ServeWorkerOptions& options);
absl::Status ServeRouter(const ServeRouterOptions& options);
absl::Status ServeGateway(const ServeGatewayOptions& options);
absl::Status ServeAll(const ServeAllOptions& options);

}  // namespace minicpmv
