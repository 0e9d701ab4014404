#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "services/common/listen_address.h"

namespace minicpmv {

// A listening socket with a loop and its one thread, on which all that happens to its connections
// is told. Boost's headers: seen by .cc files alone.
class HttpPort {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  // Connections may come, and wait for Run. `on_connection` is called on the loop's thread.
  // UNAVAILABLE: the port is taken.
  static absl::StatusOr<std::unique_ptr<HttpPort>> Open(const ListenAddress& listen,
                                                        std::function<void(Socket)> on_connection);
  // Stops the loop; what waits in it is destroyed.
  ~HttpPort();

  // Starts the thread. Once.
  void Run();

  boost::asio::io_context& loop() { return loop_; }
  // No more connections. On the loop's thread.
  void StopListening();

 private:
  explicit HttpPort(std::function<void(Socket)> on_connection)
      : on_connection_(std::move(on_connection)) {}
  boost::system::error_code Listen(const ListenAddress& listen);
  void Accept();

  const std::function<void(Socket)> on_connection_;
  boost::asio::io_context loop_{1};
  boost::asio::ip::tcp::acceptor acceptor_{loop_};
  boost::asio::steady_timer pause_{loop_};
  std::thread thread_;
};

}  // namespace minicpmv
