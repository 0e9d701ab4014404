#pragma once

#include <memory>

#include "services/common/listeners.h"
#include "services/common/metrics.h"

namespace minicpmv {

// The usual process_* gauges, read from /proc at each text, and minicpmv_build_info.
std::unique_ptr<Listeners<>::Entry> AddProcessMetrics(Metrics& metrics);

// As in "0.1.0": the project's own.
extern const char kVersion[];

}  // namespace minicpmv
