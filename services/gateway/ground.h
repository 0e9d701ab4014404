#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <set>

#include "services/gateway/gateway.h"
#include "services/gateway/gateway_metrics.h"
#include "services/gateway/routers.h"

namespace minicpmv::gateway {

class Connection;

// What all connections share; the loop's, but for `readers`.
struct Ground {
  const GatewayOptions& options;
  Routers& routers;
  boost::asio::thread_pool& readers;  // for what takes long: bodies
  GatewayMetrics& metrics;
  int64_t created;  // Unix seconds: when this began

  std::set<Connection*> connections;
  int requests = 0;        // that are being answered
  int64_t body_bytes = 0;  // of those
  bool is_draining = false;
};

}  // namespace minicpmv::gateway
