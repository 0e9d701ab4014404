#pragma once

#include <boost/asio/io_context.hpp>
#include <string>

#include "services/common/open_calls.h"
#include "services/common/trace_metadata.h"
#include "tools/sdk/cpp/servers.h"

namespace minicpmv::gateway {

// What a call to a router needs. The loop's thread makes the calls, and is told of them by what
// gRPC's threads post to it; the loop ends after `open_calls` has waited for all.
struct Routers {
  boost::asio::io_context& loop;
  sdk::Servers& servers;
  OpenCalls& open_calls;

  // Says with a call whose it is, and what it does.
  void Introduce(grpc::ClientContext& context, const std::string& tenant,
                 const TraceContext& work) const {
    servers.Introduce(context, tenant);
    AddTraceContext(work, context);
  }
};

}  // namespace minicpmv::gateway
