#pragma once

#include <boost/asio/io_context.hpp>

#include "services/common/open_calls.h"
#include "tools/sdk/cpp/servers.h"

namespace minicpmv::gateway {

// What a call to a router needs. The loop's thread makes the calls, and is told of them by what
// gRPC's threads post to it; the loop ends after `open_calls` has waited for all.
struct Routers {
  boost::asio::io_context& loop;
  sdk::Servers& servers;
  OpenCalls& open_calls;
};

}  // namespace minicpmv::gateway
