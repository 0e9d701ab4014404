#pragma once

#include <grpcpp/grpcpp.h>

#include <map>

#include "runtime/base/trace_context.h"

namespace minicpmv {

// The work that a call asks for, by its metadata (ServerContext::client_metadata()): of the trace
// that it names, or of one of its own.
TraceContext TraceContextOf(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata);

// The same where this process traces; empty otherwise, for who asks nobody further.
TraceContext TraceContextIfTracing(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata);

// Names the work in the metadata of a call that does it. Of an empty one nothing.
void AddTraceContext(const TraceContext& work, grpc::ClientContext& context);

}  // namespace minicpmv
