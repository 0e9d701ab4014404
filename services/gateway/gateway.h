#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/common/listen_address.h"
#include "services/common/metrics.h"
#include "services/gateway/api_keys.h"
#include "services/gateway/fetcher.h"
#include "services/gateway/remote_hosts.h"
#include "tools/sdk/cpp/client.h"

namespace minicpmv::gateway {

struct GatewayOptions {
  sdk::ClientOptions routers;  // how they are reached; the cache scope is the tenant's
  ApiKeys keys;
  std::string version;  // what /version says

  int64_t header_bytes = 16 << 10;         // of one request
  int64_t body_bytes = int64_t{64} << 20;  // of one request
  // In memory, of all that have not been answered yet.
  int64_t all_body_bytes = int64_t{512} << 20;
  int64_t body_memory_bytes = 1 << 20;    // of one body; one that is larger goes to the disk
  int64_t disk_bytes = int64_t{4} << 30;  // of bodies, and of files that clients keep; 0: none
  std::string disk_folder = "/tmp";       // where those are, without names
  RemoteHosts remote_hosts;               // that pictures are fetched from
  FetchLimits fetch;

  int files = 4096;                           // that clients keep
  absl::Duration file_life = absl::Hours(1);  // after the last use
  int requests = 1024;                        // that are being answered at once
  int connections = 16'384;

  absl::Duration header_patience = absl::Seconds(10);  // for a header, from its connection's start
  absl::Duration idle_patience = absl::Seconds(75);    // for the next request of a connection
  // For a body, and beside it a second for every KiB that has come.
  absl::Duration body_patience = absl::Seconds(30);
  absl::Duration send_patience = absl::Seconds(30);  // until the client takes what was written
};

// OpenAI's HTTP in front of routers: POST /v1/chat/completions, /v1/files, GET /v1/models,
// /v1/models/NAME, /health and /version; the last two without a key. One thread moves bytes, two
// read bodies, one writes large ones to the disk.
//
// A client that hangs up, or does not take its answer, gives its request up. While it does not
// take them, texts of a stream are joined: it costs what its reply holds once.
class Gateway {
 public:
  // Answers from now on. Metrics outlive it. INVALID_ARGUMENT: an address that others reach needs
  // keys. UNAVAILABLE: the port is taken. Errors of sdk::Client::Create.
  static absl::StatusOr<std::unique_ptr<Gateway>> Start(const ListenAddress& listen,
                                                        const GatewayOptions& options,
                                                        Metrics& metrics);
  // As Shutdown(0).
  ~Gateway();

  // "127.0.0.1:40123".
  const std::string& address() const { return address_; }

  // Takes nothing new at once: /health says so, idle connections are closed. What is being answered
  // has `grace` to end and is given up then. Returns when all has ended. Once.
  void Shutdown(absl::Duration grace);

 private:
  class Room;
  Gateway() = default;
  std::string address_;
  std::unique_ptr<Room> room_;
};

}  // namespace minicpmv::gateway
