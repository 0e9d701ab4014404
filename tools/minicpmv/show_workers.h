#pragma once

#include <string>

#include "absl/status/status.h"
#include "minicpmv/control/v1/fleet_service.pb.h"
#include "tools/minicpmv/server_access.h"

namespace minicpmv {

struct WorkersOptions {
  ServerAccess server;
  bool json = false;  // a list instead of a table
};

// Prints the fleet as the first router that answers sees it.
absl::Status ShowWorkers(const WorkersOptions& options);

// [{"id", "pid", "roles": [..], "address", "admin_address", "state":
// "loading"|"ready"|"draining"|"lost", "running", "pages_free", "pages_total", "links": {peer id:
// "local"|"host"|"nccl"}}] and a line feed.
std::string JsonOf(const control::v1::ListWorkersResponse& fleet);
// The same for people: a line for each worker under a line of headings.
std::string TableOf(const control::v1::ListWorkersResponse& fleet);

}  // namespace minicpmv
