#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <set>

#include "services/gateway/body.h"
#include "services/gateway/fetcher.h"
#include "services/gateway/file_store.h"
#include "services/gateway/gateway.h"
#include "services/gateway/gateway_metrics.h"
#include "services/gateway/routers.h"

namespace minicpmv::gateway {

class Connection;

// What all connections share; the loop's, but for the pools, the rooms, the files and the
// fetcher.
struct Ground {
  const GatewayOptions& options;
  Routers& routers;
  boost::asio::thread_pool& readers;  // for what takes long: whole bodies
  boost::asio::thread_pool& disk;     // for what may wait for it: pieces of bodies
  GatewayMetrics& metrics;
  const BodyRoom &room, &file_room;  // of requests that end, of those that bring files
  FileStore& files;
  Fetcher* fetcher;  // null: nothing is fetched
  int64_t created;   // Unix seconds: when this began

  std::set<Connection*> connections;
  int requests = 0;  // that are being answered
  bool is_draining = false;
};

}  // namespace minicpmv::gateway
