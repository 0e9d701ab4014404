#pragma once

#include <string>

#include "runtime/base/trace_context.h"

namespace minicpmv::gateway {

// Who asks, and as a part of what.
struct Caller {
  std::string tenant;  // whose caches are used; "": nobody's in particular
  TraceContext trace;  // of the request
};

}  // namespace minicpmv::gateway
