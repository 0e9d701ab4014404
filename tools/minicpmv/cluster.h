#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tools/minicpmv/service_settings.h"

namespace minicpmv {

struct ClusterOptions {
  int vision = 1, prefill = 1, decode = 1;
  std::string listen = "127.0.0.1:50070";  // the router's
  std::string http;                        // the gateway's; "": there is none
  // Threads that compute; 0: one for each core. The workers share them out, and each has one at
  // least. Not for workers whose flags name their devices.
  int threads = 0;
  // What its processes will make of the flags, all together: what can be seen beforehand.
  ServeAllOptions settings;
  // By role ("router", "vision", ...), handed on as they are.
  std::map<std::string, std::vector<std::string>> flags;
  // The file for spans, of which each start of a process gets one of its own: of "t.json" the file
  // "t.vision-0.json", then "t.vision-0.1.json"; "": none.
  std::string trace;
  bool json_log = false;
  // How long a process that was told to end may take.
  absl::Duration patience = absl::Seconds(40);
  std::string executable;  // ""; this one
};

// One process of a cluster.
struct ClusterMember {
  std::string name;  // "vision-0"
  std::string role;
  std::vector<std::string> flags;  // without --router, which is known when the router is
};

// As of its processes' own settings; without starting any.
absl::Status CheckSettings(const ClusterOptions& options);

// The router first; the gateway last, where there is one.
std::vector<ClusterMember> PlanCluster(const ClusterOptions& options);

// Starts the processes of a cluster on this machine as children of the calling thread and keeps
// them running until `stop_fd` can be read: who ends is started again (RestartPolicy). Then the
// gateway and after it the router are told to end, which lets running replies finish, and after
// them the workers; whoever does not end is killed. None is left when this returns.
//
// `output` gets, each with its line feed: for every start of a process "ready ROLE ADDRESS
// admin=ADDRESS name=NAME pid=PID" once it says that it is ready, and "ready cluster ADDRESS" when
// all are for the first time. `log` gets whatever they write, behind their names, and what happens
// to them; where logs are JSON their JSON lines with their "name", and the rest goes to our own
// log.
//
// Before they were all ready nothing is started again. INVALID_ARGUMENT, UNAVAILABLE: one could
// not start; its last words are in it.
absl::Status RunCluster(const ClusterOptions& options, int stop_fd,
                        absl::FunctionRef<absl::Status(absl::string_view)> output,
                        absl::FunctionRef<void(absl::string_view)> log);

// With Ctrl-C and SIGTERM to stop, standard output and standard error. A second one kills at once.
absl::Status Cluster(const ClusterOptions& options);

}  // namespace minicpmv
