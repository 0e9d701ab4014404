#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/common/listen_address.h"

namespace minicpmv {

// What the admin port shows. Called on the admin server's thread; must not block for long.
struct AdminPages {
  std::function<std::string()> metrics;  // /metrics, the Prometheus text
  std::function<bool()> is_ready;        // /readyz: 200 or 503
  std::string version;                   // /version
};

// Plain HTTP for operators on a port of its own and one thread: /metrics, /healthz (200 while the
// process lives), /readyz, /version. It holds no secrets and changes nothing; GET and HEAD only.
// Connections that are slow, idle, too many or speak something else are closed.
class AdminServer {
 public:
  struct Limits {
    int header_bytes = 8 << 10;
    int connections = 64;
    absl::Duration patience = absl::Seconds(10);  // for a request to come, or an answer to go
  };

  // UNAVAILABLE: the port is taken.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const ListenAddress& listen,
                                                            AdminPages pages, const Limits& limits);
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const ListenAddress& listen,
                                                            AdminPages pages) {
    return Start(listen, std::move(pages), Limits());
  }
  // Closes the port and all connections.
  ~AdminServer();

  // "127.0.0.1:40123".
  const std::string& address() const { return address_; }

 private:
  class Port;
  AdminServer() = default;
  std::string address_;
  std::unique_ptr<Port> port_;
};

}  // namespace minicpmv
